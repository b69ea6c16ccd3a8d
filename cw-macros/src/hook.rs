//! `#[cw::on_start]`: a function that runs in each executor before its first task.
//!
//! The function stays as it is; beside it goes an entry in a slice that the linker collects.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{GenericArgument, Ident, ItemFn, LitInt, PathArguments, ReturnType, Signature, Token, Type};

use crate::errors::Errors;
use crate::expand::{attributes, fail_from_error, item_and};
use crate::item::is_result;
use crate::text::{at, ungroup};

const NO_RESULT: &str =
    "an on_start hook returns nothing or `Result<(), E>`; a value is for `#[cw::cache]` to keep";

/// `#[cw::on_start]`.
pub(crate) fn on_start(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let order = order(options).unwrap_or_else(|error| {
        errors.add(error);
        0
    });
    let Ok(func) = syn::parse2::<ItemFn>(item.clone()) else {
        errors.push(&item, "#[cw::on_start] goes on a free function with a body");
        return errors.into_inner().map_or(TokenStream::new(), |error| item_and(item, &error));
    };
    check(&func.sig, &mut errors);
    match errors.into_inner() {
        None => expand(&func, order),
        Some(error) => item_and(item, &error),
    }
}

/// Nothing, `10`, or `order = 10`.
fn order(options: TokenStream) -> syn::Result<i32> {
    if options.is_empty() {
        return Ok(0);
    }
    let read = |input: ParseStream<'_>| {
        if input.peek(Ident::peek_any) {
            let key: Ident = input.call(Ident::parse_any)?;
            if key != "order" {
                let sentence = "unknown #[cw::on_start] option; there is `order`";
                return Err(syn::Error::new_spanned(key, sentence));
            }
            input.parse::<Token![=]>()?;
        }
        let minus = input.parse::<Option<Token![-]>>()?;
        let number: LitInt = input.parse()?;
        let sign = if minus.is_some() { "-" } else { "" };
        let order = format!("{sign}{}", number.base10_digits()).parse();
        order.map_err(|_| syn::Error::new(number.span(), "out of range"))
    };
    read.parse2(options.clone()).map_err(|error| match error.to_string() {
        unknown if unknown.starts_with("unknown") => error,
        _ => {
            let sentence =
                "`order` takes a whole number that fits an i32, like `#[cw::on_start(order = -10)]`";
            syn::Error::new_spanned(options, sentence)
        }
    })
}

fn check(sig: &Signature, errors: &mut Errors) {
    if let Some(token) = &sig.asyncness {
        errors.push(token, "an on_start hook cannot be async: it has to be done before the first task");
    }
    if let Some(token) = &sig.unsafety {
        errors.push(token, "an on_start hook cannot be unsafe: executors call it from safe code");
    }
    if !sig.generics.params.is_empty() {
        errors.push(&sig.generics, "an on_start hook cannot be generic: there is nobody to choose the types");
    }
    if let Some(clause) = &sig.generics.where_clause {
        errors.push(clause, "an on_start hook cannot have a where clause");
    }
    match sig.receiver() {
        Some(receiver) => errors.push(receiver, "an on_start hook cannot take `self`: write a free function"),
        None if !sig.inputs.is_empty() => {
            errors.push(&sig.inputs, "an on_start hook takes no arguments: there is nobody to pass any");
        }
        None => {}
    }
    if let ReturnType::Type(_, ty) = &sig.output
        && !is_nothing(&ungroup((**ty).clone()))
        && !is_result_of_nothing(&ungroup((**ty).clone()))
    {
        errors.push(ty, NO_RESULT);
    }
}

fn is_nothing(ty: &Type) -> bool {
    matches!(ty, Type::Tuple(tuple) if tuple.elems.is_empty())
}

/// As far as it can be seen: an alias may hide the types.
fn is_result_of_nothing(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    let Some(PathArguments::AngleBracketed(args)) = path.path.segments.last().map(|last| &last.arguments)
    else {
        return is_result(ty);
    };
    let first = args.args.iter().find_map(|arg| match arg {
        GenericArgument::Type(ty) => Some(ungroup(ty.clone())),
        _ => None,
    });
    is_result(ty) && first.as_ref().is_none_or(is_nothing)
}

fn expand(func: &ItemFn, order: i32) -> TokenStream {
    let cfgs = attributes(func, &["cfg"]);
    let name = &func.sig.ident;
    let path = name.unraw().to_string();
    let body = call(&func.sig);
    quote! {
        #func
        #(#cfgs)*
        #[allow(deprecated)]
        const _: () = {
            fn __cw_hook() -> ::core::result::Result<(), ::cw::__private::Fail> {
                #body
            }
            #[::cw::__private::linkme::distributed_slice(::cw::__private::ON_START)]
            #[linkme(crate = ::cw::__private::linkme)]
            static __CW_HOOK: ::cw::__private::Hook = ::cw::__private::Hook {
                path: ::core::concat!(::core::module_path!(), "::", #path),
                order: #order,
                run: __cw_hook,
            };
        };
    }
}

/// The call, with any error as texts.
fn call(sig: &Signature) -> TokenStream {
    let name = &sig.ident;
    match &sig.output {
        ReturnType::Type(_, ty) if is_result(&ungroup((**ty).clone())) => {
            let fail = fail_from_error();
            quote_spanned! {at(ty.span())=>
                match ::cw::__private::Fallible::split(#name()) {
                    ::core::result::Result::Ok(()) => ::core::result::Result::Ok(()),
                    // An error type may have no values.
                    #[allow(unreachable_patterns, unreachable_code)]
                    ::core::result::Result::Err(__cw_error) => ::core::result::Result::Err(#fail),
                }
            }
        }
        _ => quote! {
            #name();
            ::core::result::Result::Ok(())
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(options: TokenStream, item: TokenStream) -> String {
        let tokens = on_start(options, item);
        syn::parse2::<syn::File>(tokens.clone()).expect("the expansion is a list of items");
        tokens.to_string()
    }

    #[test]
    fn the_function_stays_and_an_entry_goes_beside_it() {
        let text = expanded(
            TokenStream::new(),
            quote!(
                #[cfg(unix)]
                pub(crate) fn r#match() {}
            ),
        );
        assert!(text.contains("pub (crate) fn r#match () { }"), "{text}");
        assert!(text.contains("\"match\"") && text.contains("order : 0i32"), "{text}");
        assert_eq!(text.matches("cfg (unix)").count(), 2, "{text}");
        assert!(!text.contains("Fallible") && !text.contains("compile_error"), "{text}");
    }

    #[test]
    fn a_result_is_split() {
        for ty in [quote!(Result<(), String>), quote!(anyhow::Result<()>), quote!(fmt::Result)] {
            let text = expanded(TokenStream::new(), quote!(fn f() -> #ty { Ok(()) }));
            assert!(text.contains("Fallible") && !text.contains("compile_error"), "{text}");
        }
    }

    #[test]
    fn the_order_is_a_number_bare_or_named() {
        for (options, order) in [
            (quote!(10), "order : 10i32"),
            (quote!(-3), "order : - 3i32"),
            (quote!(order = 1_000), "order : 1000i32"),
            (quote!(order = -2147483648), "order : - 2147483648i32"),
        ] {
            let text = expanded(
                options,
                quote!(
                    fn f() {}
                ),
            );
            assert!(text.contains(order) && !text.contains("compile_error"), "{order}: {text}");
        }
        for options in [quote!(order), quote!(2147483648), quote!("10"), quote!(1, 2), quote!(order = x)] {
            let text = expanded(
                options,
                quote!(
                    fn f() {}
                ),
            );
            assert!(text.contains("takes a whole number that fits an i32"), "{text}");
        }
        assert!(
            expanded(
                quote!(priority = 3),
                quote!(
                    fn f() {}
                )
            )
            .contains("there is `order`")
        );
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let cases = [
            (
                quote!(
                    async fn f() {}
                ),
                "cannot be async",
            ),
            (
                quote!(
                    unsafe fn f() {}
                ),
                "cannot be unsafe",
            ),
            (
                quote!(
                    fn f<T>() {}
                ),
                "cannot be generic",
            ),
            (
                quote!(
                    fn f(x: u8) {}
                ),
                "takes no arguments",
            ),
            (
                quote!(
                    fn f()
                    where
                        u8: Copy,
                    {
                    }
                ),
                "where clause",
            ),
            (
                quote!(
                    fn f() -> u8 {
                        0
                    }
                ),
                "returns nothing or `Result<(), E>`",
            ),
            (
                quote!(
                    fn f() -> Result<u8, String> {
                        Ok(0)
                    }
                ),
                "returns nothing or `Result<(), E>`",
            ),
            (
                quote!(
                    struct S;
                ),
                "goes on a free function",
            ),
        ];
        for (item, sentence) in cases {
            let text = expanded(TokenStream::new(), item);
            assert_eq!(text.matches("compile_error").count(), 1, "{text}");
            assert!(
                text.contains(sentence) && !text.contains("distributed_slice"),
                "no {sentence:?}: {text}"
            );
        }
        let method = on_start(
            TokenStream::new(),
            quote!(
                fn f(&self) {}
            ),
        )
        .to_string();
        assert!(method.contains("cannot take `self`"), "{method}");
    }
}
