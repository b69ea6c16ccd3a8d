//! What stands in for a job whose signature is wrong.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ItemFn;

use super::{attributes, handle, handle_struct, private};
use crate::args::Options;

/// After an error in the signature: a job of the same name, so that the lines that use it add no errors of their own.
///
/// Its types hold the error itself, as an array length. There `compile_error!` reports once, and whatever the compiler
/// then finds wrong with such a type it keeps to itself.
pub(super) fn stub(options: &Options, func: &ItemFn, error: syn::Error) -> TokenStream {
    let handle = handle(options, func);
    let handle_struct = handle_struct(func, &handle, "");
    let cfgs = attributes(func, &["cfg"]);
    let mut errors = error.into_iter().map(|error| error.to_compile_error());
    let (first, others) = (errors.next(), errors);
    let (outside, inside) = match &options.handle {
        Some(_) => (Some(func.clone()), None),
        None => (None, Some(private(func))),
    };
    let inside = inside.map(|func| {
        quote! {
            #[allow(dead_code)]
            #func
            impl ::core::ops::Deref for #handle {
                type Target = __CwError;
                fn deref(&self) -> &Self::Target {
                    ::core::unreachable!()
                }
            }
        }
    });
    let codec_error = quote!(::cw::__private::CodecError);
    quote! {
        #outside
        #handle_struct
        #(#others)*
        #(#cfgs)*
        const _: () = {
            type __CwError = [(); #first];
            #inside
            impl ::cw::Job for #handle {
                type Args<'__cw> = __CwError;
                type Output = __CwError;
                const PATH: &'static str = "";
                const SIGNATURE: &'static str = "";
                fn encode(
                    _: &Self::Args<'_>,
                    _: &mut ::std::vec::Vec<u8>,
                ) -> ::core::result::Result<(), #codec_error> {
                    ::core::unreachable!()
                }
                fn decode(_: &[u8]) -> ::core::result::Result<Self::Output, #codec_error> {
                    ::core::unreachable!()
                }
            }
        };
    }
}
