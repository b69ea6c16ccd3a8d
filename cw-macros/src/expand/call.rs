//! The plain call: `square(3)` goes through `Deref` to a function pointer.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::Ident;

use super::{Expansion, lifetime};
use crate::item::Param;
use crate::text::at;

impl Expansion {
    /// The plain call.
    pub(super) fn deref(&self) -> TokenStream {
        let Self { handle, job, .. } = self;
        let (target, value) = if job.is_async() { self.async_target() } else { self.sync_target() };
        let target = self.named_type(quote!(Target), target);
        quote! {
            #[doc(hidden)]
            impl ::core::ops::Deref for #handle {
                #target
                fn deref(&self) -> &Self::Target {
                    #value
                }
            }
        }
    }

    fn sync_target(&self) -> (TokenStream, TokenStream) {
        let (name, ty) = (&self.job.func.sig.ident, &self.job.result.ty);
        let types = self.job.params.iter().map(Param::written);
        (quote!(fn(#(#types),*) -> #ty), quote!(&(#name as Self::Target)))
    }

    fn async_target(&self) -> (TokenStream, TokenStream) {
        let Boxed { generics, arguments, output } = self.boxed();
        let higher_ranked = generics.map(|generics| quote!(for #generics));
        let types = arguments.iter().map(|(_, ty)| ty);
        (quote!(#higher_ranked fn(#(#types),*) -> #output), quote!(&(__cw_boxed as Self::Target)))
    }

    /// The async function with its future in a box: a pointer to it can be named, and only here has the future to be
    /// `Send`, so one that is not is reported once.
    pub(super) fn boxed_function(&self) -> Option<TokenStream> {
        let Boxed { generics, arguments, output } = self.job.is_async().then(|| self.boxed())?;
        let name = &self.job.func.sig.ident;
        let (vars, types): (Vec<_>, Vec<_>) = arguments.into_iter().unzip();
        let pin = quote_spanned!(at(name.span())=> ::std::boxed::Box::pin(#name(#(#vars),*)));
        Some(quote! {
            #[allow(clippy::too_many_arguments)]
            fn __cw_boxed #generics (#(#vars: #types),*) -> #output {
                #pin
            }
        })
    }

    /// Borrowed arguments share one lifetime, to which a call shortens them.
    fn boxed(&self) -> Boxed<'_> {
        let (ty, lifetime) = (&self.job.result.ty, lifetime());
        let arguments = self.vars().into_iter().zip(self.types_for(&lifetime)).collect();
        if self.job.borrows() {
            let output = quote!(::cw::__private::BoxFuture<#lifetime, #ty>);
            Boxed { generics: Some(quote!(<#lifetime>)), arguments, output }
        } else {
            Boxed { generics: None, arguments, output: quote!(::cw::__private::BoxFuture<'static, #ty>) }
        }
    }
}

/// The head of `__cw_boxed`.
struct Boxed<'a> {
    generics: Option<TokenStream>,
    arguments: Vec<(&'a Ident, TokenStream)>,
    output: TokenStream,
}
