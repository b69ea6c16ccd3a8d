//! What a worker calls: bytes in, bytes out; and the entry that puts it into the registry.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};

use super::Expansion;
use crate::item::{Param, Pass};
use crate::text::at;

impl Expansion {
    /// From bytes to bytes: what an executor calls.
    pub(super) fn run(&self) -> TokenStream {
        let (finish, decode, call) = (self.finish(), self.decode_args(), self.call());
        let fail = quote!(::cw::__private::Fail);
        if !self.job.is_async() {
            return quote! {
                #finish
                fn __cw_run(
                    __cw_bytes: &[u8],
                    __cw_out: &mut ::std::vec::Vec<u8>,
                ) -> ::core::result::Result<(), #fail> {
                    #decode
                    __cw_finish(#call, __cw_out)
                }
            };
        }
        quote! {
            #finish
            fn __cw_run(
                __cw_bytes: ::std::vec::Vec<u8>,
            ) -> ::cw::__private::BoxFuture<'static, ::core::result::Result<::std::vec::Vec<u8>, #fail>> {
                ::std::boxed::Box::pin(async move {
                    #decode
                    let mut __cw_out = ::std::vec::Vec::new();
                    __cw_finish(#call.await, &mut __cw_out)?;
                    ::core::result::Result::Ok(__cw_out)
                })
            }
        }
    }

    fn decode_args(&self) -> TokenStream {
        let (vars, coders) = (self.vars(), self.coder_names());
        let mutability = (!vars.is_empty()).then(|| quote!(mut));
        quote! {
            let #mutability __cw_in = ::cw::__private::Reader::new(&__cw_bytes);
            #(let #vars = #coders.take(&mut __cw_in)?;)*
            __cw_in.end()?;
        }
    }

    fn call(&self) -> TokenStream {
        let name = match self.job.is_async() {
            true => &format_ident!("__cw_boxed"),
            false => &self.job.func.sig.ident,
        };
        let args = self.job.params.iter().map(|Param { var, pass, .. }| match pass {
            Pass::Borrowed(_) => quote!(&*#var),
            Pass::Owned(_) | Pass::Text(_) | Pass::Bytes(_) => quote!(#var),
        });
        quote!(#name(#(#args),*))
    }

    /// The function's result as bytes, or its error as texts.
    fn finish(&self) -> TokenStream {
        let result = &self.job.result;
        let (ty, span) = (&result.ty, at(result.span));
        let body = if result.fallible {
            let fail = fail_from_error();
            quote_spanned! {span=>
                match ::cw::__private::Fallible::split(__cw_result) {
                    ::core::result::Result::Ok(__cw_value) => __CW_RESULT.put(&__cw_value, __cw_out),
                    // An error type may have no values.
                    #[allow(unreachable_patterns, unreachable_code)]
                    ::core::result::Result::Err(__cw_error) => ::core::result::Result::Err(#fail),
                }
            }
        } else {
            quote_spanned!(span=> __CW_RESULT.put(&__cw_result, __cw_out))
        };
        quote_spanned! {span=>
            fn __cw_finish(
                __cw_result: #ty,
                __cw_out: &mut ::std::vec::Vec<u8>,
            ) -> ::core::result::Result<(), ::cw::__private::Fail> {
                #body
            }
        }
    }

    pub(super) fn entry(&self) -> TokenStream {
        let (handle, coders) = (&self.handle, self.coder_names());
        let shows = self.shows();
        let kind = if self.job.is_async() { quote!(Async) } else { quote!(Sync) };
        let trace = quote_spanned!(at(self.job.result.span)=> __CW_RESULT.trace(__cw_schema));
        quote! {
            fn __cw_schema() -> ::cw::__private::Schema {
                let __cw_schema = ::cw::__private::SchemaBuilder::new(<#handle as ::cw::Job>::SIGNATURE);
                #(let __cw_schema = #coders.trace(__cw_schema);)*
                #trace.finish()
            }
            #shows
            ::cw::__private::inventory::submit! {
                ::cw::__private::JobEntry::new::<#handle>(
                    ::cw::__private::Run::#kind(__cw_run),
                    __cw_schema,
                    ::cw::__private::Shows { args: __cw_show_args, result: __cw_show_result },
                    ::core::file!(),
                    ::core::line!(),
                )
            }
        }
    }

    /// What people read of a call in a store: its arguments and its result as JSON.
    fn shows(&self) -> TokenStream {
        let (vars, coders) = (self.vars(), self.coder_names());
        let mutability = (!vars.is_empty()).then(|| quote!(mut));
        let result = quote_spanned!(at(self.job.result.span)=> __CW_RESULT.show(__cw_bytes, __cw_json));
        quote! {
            fn __cw_show_args(
                __cw_bytes: &[u8],
                __cw_json: &mut ::cw::__private::Json,
            ) -> ::core::result::Result<(), ::cw::__private::CodecError> {
                let #mutability __cw_in = ::cw::__private::Reader::new(__cw_bytes);
                #(
                    let #vars = #coders.take(&mut __cw_in)?;
                    #coders.show(&#vars, __cw_json);
                )*
                let _ = &__cw_json;
                __cw_in.end()
            }
            fn __cw_show_result(
                __cw_bytes: &[u8],
                __cw_json: &mut ::cw::__private::Json,
            ) -> ::core::result::Result<(), ::cw::__private::CodecError> {
                #result
            }
        }
    }
}

/// Finds the text of any error type, by the two ladders on `Probe`.
pub(crate) fn fail_from_error() -> TokenStream {
    quote! {{
        #[allow(unused_imports)]
        use ::cw::__private::{
            ByDebug, ByDisplay, ByDynError, ByDynErrorSync, ByError, ByName, ByNothing, BySerde, Probe,
        };
        ::cw::__private::Fail::new(
            (&&&&&&Probe(&__cw_error)).cw_texts(),
            (&&Probe(&__cw_error)).cw_value(),
        )
    }}
}
