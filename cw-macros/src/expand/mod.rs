//! From a function to tokens: a unit struct of the function's name that is a [job](crate::item::Job).
//!
//! The struct takes the name in both namespaces of the module; the function itself moves, token for token, into a
//! `const _` block. There it shadows the struct among values, so that its body may have a local of its own name and
//! recursion is a direct call. `Deref` to a function pointer keeps `square(3)` a plain call.

mod call;
mod run;
mod stub;
#[cfg(test)]
mod tests;

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Ident, ItemFn, Visibility};

use crate::args::Options;
use crate::errors::Errors;
use crate::item::{Job, Param, Pass, SelfType};
use crate::text::at;
pub(crate) use run::fail_from_error;
use stub::stub;

/// `#[cw::job]`.
pub(crate) fn job(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let options = Options::parse(options, &mut errors);
    let Ok(func) = syn::parse2::<ItemFn>(item.clone()) else { return not_a_function(errors, item) };
    // With a receiver or a `Self` the function sits in an `impl`, where no struct can stand: it stays what it is.
    let is_method = func.sig.receiver().is_some() || SelfType::find(&func.sig).is_some();
    let bad_options = errors.into_inner();
    let mut errors = Errors::default();
    let job = Job::read(func, &mut errors);
    match errors.into_inner() {
        None => {
            let complaint = bad_options.map(|error| error.to_compile_error());
            let expansion = Expansion { handle: handle(&options, &job.func), options, job };
            let tokens = expansion.tokens();
            quote!(#complaint #tokens)
        }
        Some(mut error) => {
            error.extend(bad_options.into_iter().flatten());
            if is_method { item_and(item, &error) } else { stub(&options, &job.func, error) }
        }
    }
}

fn not_a_function(mut errors: Errors, item: TokenStream) -> TokenStream {
    errors.push(&item, "#[cw::job] goes on a free function with a body");
    match errors.into_inner() {
        Some(error) => item_and(item, &error),
        None => item,
    }
}

pub(crate) fn item_and(item: TokenStream, error: &syn::Error) -> TokenStream {
    let error = error.to_compile_error();
    quote!(#item #error)
}

fn handle(options: &Options, func: &ItemFn) -> Ident {
    options.handle.clone().unwrap_or_else(|| func.sig.ident.clone())
}

/// What an accepted function becomes.
struct Expansion {
    options: Options,
    job: Job,
    handle: Ident,
}

impl Expansion {
    fn tokens(&self) -> TokenStream {
        let handle_struct = self.handle_struct();
        let coders = self.coders();
        let boxed_function = self.boxed_function();
        let args_method = self.args_method();
        let job_impl = self.job_impl();
        let run = self.run();
        let entry = self.entry();
        let cfgs = attributes(&self.job.func, &["cfg"]);
        // As the compiler has it for functions: what is deprecated may name itself.
        let is_deprecated = !attributes(&self.job.func, &["deprecated"]).is_empty();
        let allow = is_deprecated.then(|| quote!(#[allow(deprecated)]));
        // A handle of another name leaves the function where the user put it, and needs no calls of its own.
        let (outside, inside) = match &self.options.handle {
            Some(_) => (self.job.func.to_token_stream(), TokenStream::new()),
            None => {
                let func = private(&self.job.func);
                let deref = self.deref();
                (TokenStream::new(), quote!(#func #deref))
            }
        };
        quote! {
            #outside
            #handle_struct
            #(#cfgs)*
            #allow
            const _: () = {
                #inside
                #coders
                #boxed_function
                #args_method
                #job_impl
                #run
                #entry
            };
        }
    }

    fn handle_struct(&self) -> TokenStream {
        let Self { handle, job, .. } = self;
        let head = format!(
            "```text\n{}\n```\nA [job](::cw::Job): call it, or hand it to `cw::spawn` and `cw::map`.",
            job.head()
        );
        handle_struct(&job.func, handle, &head)
    }

    /// A constant per argument and one for the result: the only places that ask for serde.
    fn coders(&self) -> TokenStream {
        let handle = &self.handle;
        let args = self.job.params.iter().enumerate().map(|(index, param)| {
            let (name, text, (coder, new)) = (coder_name(index), &param.name, coder(param));
            quote!(const #name: #coder = #new.named(#text);)
        });
        let span = at(self.job.result.span);
        let coder = quote_spanned!(span=> ::cw::__private::ResultCode::<<#handle as ::cw::Job>::Output>);
        let output = self.output();
        let new = quote_spanned!(span=> <#output as ::cw::__private::Out>::CODER);
        quote!(#(#args)* const __CW_RESULT: #coder = #new;)
    }

    /// `job.args(..)`: the function's own parameters, for coercions, inference and the compiler's own arity errors.
    fn args_method(&self) -> TokenStream {
        let Self { handle, job, .. } = self;
        let vis = quiet(&job.func.vis);
        let vars = self.vars();
        let types = self.types_for(&lifetime());
        let lifetime = lifetime();
        let (generics, bound) = if job.borrows() {
            (quote!(<#lifetime>), lifetime)
        } else {
            (TokenStream::new(), quote!('static))
        };
        let tuple = (!vars.is_empty()).then(|| quote!((#(#vars,)*)));
        quote! {
            impl #handle {
                /// The arguments of one call, for `cw::spawn(job, job.args(..))`: as the function takes them, with
                /// the coercions of a plain call.
                #[allow(dead_code, clippy::too_many_arguments)]
                #vis fn args #generics (self, #(#vars: #types),*) -> <Self as ::cw::Job>::Args<#bound> {
                    #tuple
                }
            }
        }
    }

    fn job_impl(&self) -> TokenStream {
        let Self { handle, job, .. } = self;
        let types = self.types_for(&lifetime());
        let (vars, coders) = (self.vars(), self.coder_names());
        let (lifetime, output) = (lifetime(), self.output());
        let (path, signature, consts) = (self.path(), job.signature(), self.consts());
        let canonical = self.canonical();
        let args_type = self.named_type(quote!(Args<#lifetime>), quote!((#(#types,)*)));
        let output_type = self.named_type(quote!(Output), output);
        let decode = quote_spanned! {at(job.result.span)=>
            fn decode(
                __cw_bytes: &[u8],
            ) -> ::core::result::Result<Self::Output, ::cw::__private::CodecError> {
                __CW_RESULT.decode(__cw_bytes)
            }
        };
        quote! {
            impl ::cw::Job for #handle {
                #args_type
                #output_type
                const PATH: &'static str = #path;
                const SIGNATURE: &'static str = #signature;
                #consts
                fn encode(
                    __cw_args: &Self::Args<'_>,
                    __cw_out: &mut ::std::vec::Vec<u8>,
                ) -> ::core::result::Result<(), ::cw::__private::CodecError> {
                    let (#(#vars,)*) = __cw_args;
                    let _ = &__cw_out;
                    #(#coders.put(#vars, __cw_out)?;)*
                    ::core::result::Result::Ok(())
                }
                #decode
                #canonical
            }
        }
    }

    /// What tells calls of the job apart, in bytes: its arguments, or what its key makes of them.
    fn canonical(&self) -> TokenStream {
        let (vars, coders) = (self.vars(), self.coder_names());
        let put = match &self.options.key {
            None => quote!(#(#coders.canonical(#vars, __cw_out)?;)*),
            Some(key) => {
                let args = self.job.params.iter().map(|Param { var, pass, .. }| match pass {
                    Pass::Owned(_) => quote!(#var),
                    _ => quote!(*#var),
                });
                quote_spanned!(at(key.span())=> ::cw::__private::put_key(&#key(#(#args),*), __cw_out)?;)
            }
        };
        quote! {
            fn canonical(
                __cw_args: &Self::Args<'_>,
                __cw_out: &mut ::std::vec::Vec<u8>,
            ) -> ::core::result::Result<(), ::cw::__private::CodecError> {
                let (#(#vars,)*) = __cw_args;
                let _ = &__cw_out;
                #put
                ::core::result::Result::Ok(())
            }
        }
    }

    /// A trait's type, on the handle's name: there, and only once for all of them, the compiler says that a public
    /// job has types that are private.
    pub(super) fn named_type(&self, name: TokenStream, ty: TokenStream) -> TokenStream {
        quote_spanned!(at(self.handle.span())=> type #name = #ty;)
    }

    fn path(&self) -> TokenStream {
        let name = self.job.name();
        match &self.options.name {
            Some(name) => name.to_token_stream(),
            None => quote!(::core::concat!(::core::module_path!(), "::", #name)),
        }
    }

    fn output(&self) -> TokenStream {
        let result = &self.job.result;
        let ty = &result.ty;
        if result.fallible {
            quote_spanned!(at(result.span)=> <#ty as ::cw::__private::Fallible>::Ok)
        } else {
            ty.clone()
        }
    }

    fn consts(&self) -> TokenStream {
        let Options { version, retries, timeout_millis, max_bytes, speculate, rerun, json_bytes, .. } =
            &self.options;
        let body = self.body_hash();
        let version = version.map(|version| quote!(const VERSION: u32 = #version;));
        let retries = retries.map(|retries| {
            quote!(const RETRIES: ::core::option::Option<u32> = ::core::option::Option::Some(#retries);)
        });
        let timeout = timeout_millis.map(|millis| {
            quote! {
                const TIMEOUT: ::core::option::Option<::core::time::Duration> =
                    ::core::option::Option::Some(::core::time::Duration::from_millis(#millis));
            }
        });
        let max_bytes = max_bytes.as_ref().map(|size| quote!(const MAX_BYTES: usize = #size;));
        let speculate = speculate.map(|yes| quote!(const SPECULATE: bool = #yes;));
        let rerun = rerun.map(|always| quote!(const RERUN: bool = #always;));
        let json = json_bytes.map(|bytes| quote!(const JSON_BYTES: u32 = #bytes;));
        let body = quote!(const BODY: u64 = #body;);
        quote!(#version #retries #timeout #max_bytes #speculate #rerun #json #body)
    }

    /// Tells one text of the function from another; layout and comments do not count. What its calls are told apart by
    /// is part of it: under another key the same hash means another call.
    fn body_hash(&self) -> u64 {
        let ItemFn { sig, block, .. } = &self.job.func;
        let key = &self.options.key;
        let text = quote!(#sig #block #key).to_string();
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    pub(super) fn vars(&self) -> Vec<&Ident> {
        self.job.params.iter().map(|param| &param.var).collect()
    }

    pub(super) fn coder_names(&self) -> Vec<Ident> {
        (0..self.job.params.len()).map(coder_name).collect()
    }

    /// The argument types, borrowed ones for `lifetime`.
    pub(super) fn types_for(&self, lifetime: &TokenStream) -> Vec<TokenStream> {
        let with_lifetime = |param: &Param| {
            let ty = param.ty();
            match param.pass {
                Pass::Owned(_) => ty.to_token_stream(),
                _ => quote_spanned!(at(ty.span())=> &#lifetime #ty),
            }
        };
        self.job.params.iter().map(with_lifetime).collect()
    }
}

/// The coder's type and value, spanned so that a type without serde is underlined where the user wrote it.
fn coder(param: &Param) -> (TokenStream, TokenStream) {
    let private = quote!(::cw::__private);
    let ty = param.ty();
    let of = |the_trait: TokenStream| quote_spanned!(at(ty.span())=> <#ty as #private::#the_trait>::CODER);
    match &param.pass {
        Pass::Owned(_) => (quote!(#private::OwnedArg::<#ty>), of(quote!(Arg))),
        Pass::Borrowed(_) => (quote!(#private::BorrowedArg::<#ty>), of(quote!(Lend))),
        Pass::Text(_) => (quote!(#private::TextArg), quote!(#private::TextArg::CODER)),
        Pass::Bytes(_) => (quote!(#private::BytesArg), quote!(#private::BytesArg::CODER)),
    }
}

fn coder_name(index: usize) -> Ident {
    format_ident!("__CW_ARG_{index}")
}

fn lifetime() -> TokenStream {
    quote!('__cw)
}

pub(crate) fn attributes<'a>(func: &'a ItemFn, names: &[&str]) -> Vec<&'a Attribute> {
    func.attrs.iter().filter(|attr| names.iter().any(|name| attr.path().is_ident(name))).collect()
}

/// The function inside its block, where `pub` would only draw lints.
fn private(func: &ItemFn) -> ItemFn {
    ItemFn { vis: Visibility::Inherited, ..func.clone() }
}

/// The visibility as if written by us: what lints have to say about it they say about the struct.
fn quiet(vis: &Visibility) -> TokenStream {
    let ours = |mut token: TokenTree| {
        token.set_span(at(token.span()));
        token
    };
    vis.to_token_stream().into_iter().map(ours).collect()
}

fn handle_struct(func: &ItemFn, handle: &Ident, doc: &str) -> TokenStream {
    let copied = attributes(func, &["cfg", "doc", "deprecated"]);
    let vis = &func.vis;
    // On the name, where the compiler's notes then point, and not on the attribute.
    let keyword = quote_spanned!(at(handle.span())=> struct);
    quote! {
        #(#copied)*
        #[doc = ""]
        #[doc = #doc]
        #[allow(non_camel_case_types, dead_code)]
        #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
        #vis #keyword #handle;
    }
}
