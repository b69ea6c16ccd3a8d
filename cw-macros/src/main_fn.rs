//! `#[cw::main]`: an ordinary `fn main` that decides the role first and calls the user's function in the client only.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{FnArg, Ident, ItemFn, LitStr, Path, ReturnType, Signature, Token, Type};

use crate::errors::Errors;
use crate::text::{at, ungroup};

/// `#[cw::main]`.
pub(crate) fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let prefix = prefix(options).unwrap_or_else(|error| {
        errors.add(error);
        String::new()
    });
    match syn::parse2::<ItemFn>(item.clone()) {
        Ok(func) if func.sig.ident == "main" => {
            check(&func, &mut errors);
            let parameter = Parameter::read(&func.sig, &mut errors);
            match errors.into_inner() {
                None => expand(&func, &parameter, &prefix),
                Some(error) => stub(&func, &error),
            }
        }
        _ => {
            errors.push(&item, "#[cw::main] goes on `fn main`");
            let error = errors.into_inner().map(|error| error.to_compile_error());
            quote!(#item #error)
        }
    }
}

/// Nothing, or `prefix = "cw-"`.
fn prefix(options: TokenStream) -> syn::Result<String> {
    if options.is_empty() {
        return Ok(String::new());
    }
    let read = |input: ParseStream<'_>| {
        let key: Ident = input.call(Ident::parse_any)?;
        input.parse::<Token![=]>()?;
        Ok((key, input.parse::<LitStr>()?))
    };
    let text = match read.parse2(options.clone()) {
        Ok((key, text)) if key == "prefix" => text,
        _ => {
            let sentence =
                "#[cw::main] takes one option, a text before the names of cw's flags: `prefix = \"cw-\"`";
            return Err(syn::Error::new_spanned(options, sentence));
        }
    };
    let prefix = text.value();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let problem = if prefix.is_empty() {
        "the prefix is empty; leave it out for none"
    } else if prefix.starts_with('-') {
        "the prefix cannot begin with `-`: the flags have their own dashes"
    } else if !prefix.chars().all(fits) {
        "the prefix can have letters, digits, `-` and `_`"
    } else {
        return Ok(prefix);
    };
    Err(syn::Error::new(text.span(), problem))
}

fn check(func: &ItemFn, errors: &mut Errors) {
    let sig = &func.sig;
    if !sig.generics.params.is_empty() {
        errors.push(&sig.generics, "`main` cannot be generic");
    }
    if let Some(clause) = &sig.generics.where_clause {
        errors.push(clause, "`main` cannot have a where clause");
    }
    if let Some(token) = &sig.constness {
        errors.push(token, "`main` cannot be `const fn`");
    }
    if let Some(token) = &sig.unsafety {
        errors.push(token, "`main` cannot be unsafe");
    }
    if let Some(abi) = &sig.abi {
        errors.push(abi, "`main` has to use Rust's own ABI: remove the `extern`");
    }
    if let Some(other) = func.attrs.iter().find(|attr| is_main(attr.path())) {
        errors.push(other, "#[cw::main] starts the async runtime itself: remove this attribute");
    }
}

/// `#[tokio::main]` and its like.
fn is_main(path: &Path) -> bool {
    path.segments.last().is_some_and(|last| last.ident == "main")
}

/// What the user's `main` takes.
enum Parameter {
    None,
    Options(Box<Type>),
}

impl Parameter {
    fn read(sig: &Signature, errors: &mut Errors) -> Self {
        if let Some(second) = sig.inputs.iter().nth(1) {
            let sentence = "#[cw::main] takes at most one parameter, a struct that derives `clap::Args`; put everything in it";
            errors.push(second, sentence);
        }
        match sig.inputs.first() {
            None => Self::None,
            Some(FnArg::Receiver(receiver)) => {
                errors.push(receiver, "`main` cannot take `self`");
                Self::None
            }
            Some(FnArg::Typed(parameter)) => {
                let ty = ungroup((*parameter.ty).clone());
                match &ty {
                    Type::Reference(_) => {
                        errors.push(&ty, "`main` takes its options by value: remove the `&`")
                    }
                    Type::ImplTrait(_) => {
                        errors.push(&ty, "the options of `main` need a concrete type, not `impl Trait`")
                    }
                    _ => {}
                }
                Self::Options(Box::new(ty))
            }
        }
    }
}

fn expand(func: &ItemFn, parameter: &Parameter, prefix: &str) -> TokenStream {
    let call = call(&func.sig, parameter, prefix);
    let cfgs = func.attrs.iter().filter(|attr| attr.path().is_ident("cfg"));
    quote! {
        #(#cfgs)*
        fn main() -> ::std::process::ExitCode {
            #func
            #call
        }
    }
}

/// Calls what runs `main`, a method of its options. The compiler tells on their type if they are none, and on the
/// return type, where the call is, if no process can end with that.
fn call(sig: &Signature, parameter: &Parameter, prefix: &str) -> TokenStream {
    let result = match &sig.output {
        ReturnType::Default => Span::call_site(),
        ReturnType::Type(_, ty) => at(ty.span()),
    };
    let name = if sig.asyncness.is_some() { "main_async" } else { "main_sync" };
    let name = Ident::new(name, result);
    let (options, body) = match parameter {
        Parameter::None => (quote_spanned!(result=> ::cw::__private::NoOpts), quote!(|_| main())),
        Parameter::Options(ty) => (ty.to_token_stream(), quote!(main)),
    };
    let program = quote! {
        ::cw::__private::Program {
            name: ::core::env!("CARGO_PKG_NAME"),
            version: ::core::env!("CARGO_PKG_VERSION"),
            about: ::core::env!("CARGO_PKG_DESCRIPTION"),
            prefix: #prefix,
        }
    };
    quote_spanned!(result=> <#options as ::cw::__private::MainArgs>::#name(#program, #body))
}

/// After an error: a `main` that the compiler has nothing to say about, with the user's inside for its own errors.
fn stub(func: &ItemFn, error: &syn::Error) -> TokenStream {
    let error = error.to_compile_error();
    // It sits in an `impl`, and within a function would only be more wrong.
    if func.sig.receiver().is_some() {
        return quote!(#func #error);
    }
    quote! {
        #error
        fn main() {
            #[allow(dead_code)]
            #func
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(item: TokenStream) -> String {
        main(TokenStream::new(), item).to_string()
    }

    #[test]
    fn sync_and_async_with_and_without_options() {
        let text = expanded(quote!(
            async fn main() {}
        ));
        assert!(
            text.contains("< :: cw :: __private :: NoOpts as :: cw :: __private :: MainArgs > :: main_async"),
            "{text}"
        );
        let text = expanded(quote!(
            fn main(opts: Opts) -> cw::Result<()> {
                Ok(())
            }
        ));
        assert!(text.contains("< Opts as :: cw :: __private :: MainArgs > :: main_sync"), "{text}");
        assert!(!text.contains("compile_error"), "{text}");
    }

    #[test]
    fn everything_else_is_refused_with_a_sentence() {
        let cases = [
            (
                quote!(
                    fn start() {}
                ),
                "#[cw::main] goes on `fn main`",
            ),
            (
                quote!(
                    struct Main;
                ),
                "#[cw::main] goes on `fn main`",
            ),
            (
                quote!(
                    fn main(a: A, b: B) {}
                ),
                "at most one parameter",
            ),
            (
                quote!(
                    fn main<T>() {}
                ),
                "`main` cannot be generic",
            ),
            (
                quote!(
                    unsafe fn main() {}
                ),
                "`main` cannot be unsafe",
            ),
            (
                quote!(
                    fn main(&self) {}
                ),
                "`main` cannot take `self`",
            ),
            (
                quote!(
                    fn main(opts: &Opts) {}
                ),
                "by value",
            ),
            (
                quote!(
                    fn main(opts: impl Args) {}
                ),
                "concrete type",
            ),
            (
                quote!(
                    #[tokio::main]
                    async fn main() {}
                ),
                "starts the async runtime itself",
            ),
        ];
        for (item, sentence) in cases {
            let text = expanded(item);
            assert!(text.contains("compile_error") && text.contains(sentence), "no {sentence:?} in {text}");
        }
    }

    #[test]
    fn the_flags_of_cw_may_have_a_prefix() {
        let with = |options: TokenStream| {
            main(
                options,
                quote!(
                    fn main() {}
                ),
            )
            .to_string()
        };
        assert!(
            expanded(quote!(
                fn main() {}
            ))
            .contains("prefix : \"\"")
        );
        let text = with(quote!(prefix = "cw-"));
        assert!(text.contains("prefix : \"cw-\"") && !text.contains("compile_error"), "{text}");
        for (options, sentence) in [
            (quote!(flavor = "x"), "takes one option"),
            (quote!(prefix), "takes one option"),
            (quote!(prefix = cw), "takes one option"),
            (quote!(prefix = "a", prefix = "b"), "takes one option"),
            (quote!(prefix = ""), "the prefix is empty"),
            (quote!(prefix = "-cw"), "cannot begin with `-`"),
            (quote!(prefix = "cw "), "can have letters, digits"),
            (quote!(prefix = "cw="), "can have letters, digits"),
        ] {
            let text = with(options);
            assert!(text.contains("compile_error") && text.contains(sentence), "no {sentence:?} in {text}");
        }
    }
}
