//! `#[cw::cache]`: a function whose values are kept, one for each set of arguments.
//!
//! The function keeps its name, its attributes and its parameters, and returns an `Arc`. What the user wrote moves
//! into a function inside it, where a call of its own name finds the cached one.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::{
    FnArg, GenericArgument, ItemFn, LitInt, Pat, PathArguments, ReturnType, Token, Type, Visibility,
    parse_quote,
};

use crate::errors::Errors;
use crate::expand::item_and;
use crate::item::{Output, Param, Pass, Subject, check_signature};
use crate::text::{at, ungroup};

/// Argument sets that are kept unless said otherwise.
const ENTRIES: usize = 16;

/// `#[cw::cache]`.
pub(crate) fn cache(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let entries = entries(options).unwrap_or_else(|error| {
        errors.add(error);
        ENTRIES
    });
    let Ok(func) = syn::parse2::<ItemFn>(item.clone()) else {
        errors.push(&item, "#[cw::cache] goes on a free function with a body");
        return errors.into_inner().map_or(TokenStream::new(), |error| item_and(item, &error));
    };
    if let Some(token) = &func.sig.asyncness {
        let sentence =
            "a cached function cannot be async: callers with equal arguments wait on their threads";
        errors.push(token, sentence);
    }
    check_signature(Subject::Cached, &func.sig, &mut errors);
    let params = Param::read_all(Subject::Cached, &func.sig, &mut errors);
    let result = Output::read(Subject::Cached, &func.sig, &mut errors);
    match errors.into_inner() {
        None => Expansion { func, params, result, entries }.tokens(),
        Some(error) => item_and(item, &error),
    }
}

/// Nothing, or `entries = 64`.
fn entries(options: TokenStream) -> syn::Result<usize> {
    if options.is_empty() {
        return Ok(ENTRIES);
    }
    let read = |input: syn::parse::ParseStream<'_>| {
        let key: Ident = input.call(Ident::parse_any)?;
        input.parse::<Token![=]>()?;
        let number: LitInt = input.parse()?;
        Ok((key == "entries").then(|| number.base10_parse::<u32>().ok()).flatten())
    };
    match read.parse2(options.clone()) {
        Ok(Some(number)) if number > 0 => Ok(number as usize),
        _ => {
            let sentence = "#[cw::cache] takes one option, the number of argument sets to keep, at least 1: \
                            `#[cw::cache(entries = 64)]`";
            Err(syn::Error::new_spanned(options, sentence))
        }
    }
}

struct Expansion {
    func: ItemFn,
    params: Vec<Param>,
    result: Output,
    entries: usize,
}

impl Expansion {
    fn tokens(&self) -> TokenStream {
        let Self { func, entries, .. } = self;
        let name = func.sig.ident.unraw().to_string();
        let (compute, key, call) = (self.compute(), self.key(), self.call());
        let outer = ItemFn {
            sig: syn::Signature {
                inputs: self.inputs(),
                output: parse_output(self.output()),
                ..func.sig.clone()
            },
            block: parse_quote!({
                #compute
                static __CW_CACHE: ::cw::__private::Cache = ::cw::__private::Cache::new(
                    ::core::concat!(::core::module_path!(), "::", #name),
                    #entries,
                );
                #key
                #call
            }),
            ..func.clone()
        };
        outer.into_token_stream()
    }

    /// The user's function. Its attributes, lint levels among them, stand on the outer one and hold here too.
    fn compute(&self) -> ItemFn {
        let ident = Ident::new("__cw_compute", at(self.func.sig.ident.span()));
        let sig = syn::Signature { ident, ..self.func.sig.clone() };
        ItemFn { attrs: Vec::new(), vis: Visibility::Inherited, sig, block: self.func.block.clone() }
    }

    /// The parameters as the outer function names them: as written, where a name was written.
    fn vars(&self) -> Vec<Ident> {
        let named = |input: &FnArg| match input {
            FnArg::Typed(input) => match &*input.pat {
                Pat::Ident(pattern) => Some(pattern.ident.clone()),
                _ => None,
            },
            FnArg::Receiver(_) => None,
        };
        let inputs = self.func.sig.inputs.iter().zip(&self.params);
        inputs.map(|(input, param)| named(input).unwrap_or_else(|| param.var.clone())).collect()
    }

    fn inputs(&self) -> syn::punctuated::Punctuated<FnArg, Token![,]> {
        let inputs = self.vars().into_iter().zip(&self.params).map(|(var, param)| {
            let ty = param.written();
            FnArg::Typed(parse_quote!(#var: #ty))
        });
        inputs.collect()
    }

    /// The arguments as bytes; only this asks them for serde.
    fn key(&self) -> TokenStream {
        let adds = self.vars().into_iter().zip(&self.params).map(|(var, param)| {
            let (ty, name) = (param.ty(), &param.name);
            let span = at(ty.span());
            match param.pass {
                Pass::Bytes(_) => quote!(__cw_key.add_bytes(#name, #var);),
                Pass::Owned(_) => quote_spanned!(span=> __cw_key.add::<#ty>(#name, &#var);),
                Pass::Text(_) | Pass::Borrowed(_) => quote_spanned!(span=> __cw_key.add::<#ty>(#name, #var);),
            }
        });
        let mutability = (!self.params.is_empty()).then(|| quote!(mut));
        quote! {
            let #mutability __cw_key = ::cw::__private::CacheKey::new();
            #(#adds)*
        }
    }

    fn call(&self) -> TokenStream {
        let vars = self.vars();
        let compute = quote!(__cw_compute(#(#vars),*));
        let span = at(self.result.span);
        if self.result.fallible {
            let split = quote_spanned!(span=> ::cw::__private::Fallible::split(#compute));
            quote_spanned!(span=> __CW_CACHE.get_or_try(__cw_key, || #split))
        } else {
            quote_spanned!(span=> __CW_CACHE.get(__cw_key, || #compute))
        }
    }

    /// `Arc<T>`, or `Result<Arc<T>, E>` by the name it was written with.
    fn output(&self) -> TokenStream {
        let ty = &self.result.ty;
        if !self.result.fallible {
            return arc(ty);
        }
        if let Some(shared) = with_shared_ok(&self.func.sig.output) {
            return shared;
        }
        // The alias hides its types.
        let split = quote!(#ty as ::cw::__private::Fallible);
        let ok = arc(&quote!(<#split>::Ok));
        quote!(::core::result::Result<#ok, <#split>::Err>)
    }
}

fn arc(ty: &TokenStream) -> TokenStream {
    quote!(::std::sync::Arc<#ty>)
}

/// `Result<T, E>` with `Arc<T>` in the place of its first type, if it names one.
fn with_shared_ok(output: &ReturnType) -> Option<TokenStream> {
    let ReturnType::Type(_, ty) = output else { return None };
    let Type::Path(mut path) = ungroup((**ty).clone()) else { return None };
    let PathArguments::AngleBracketed(args) = &mut path.path.segments.last_mut()?.arguments else {
        return None;
    };
    let first = args.args.iter_mut().find_map(|arg| match arg {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })?;
    *first = Type::Verbatim(arc(&first.to_token_stream()));
    Some(path.into_token_stream())
}

fn parse_output(ty: TokenStream) -> ReturnType {
    ReturnType::Type(Token![->](Span::call_site()), Box::new(Type::Verbatim(ty)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(options: TokenStream, item: TokenStream) -> String {
        let tokens = cache(options, item);
        syn::parse2::<syn::File>(tokens.clone()).expect("the expansion is a list of items");
        tokens.to_string()
    }

    #[test]
    fn the_function_keeps_its_looks_and_returns_an_arc() {
        let text = expanded(
            TokenStream::new(),
            quote!(
                /// Loads it.
                #[inline]
                pub fn model(path: &str, mut steps: u8, (a, b): (u8, u8)) -> Model {
                    load(path)
                }
            ),
        );
        let head = "pub fn model (path : & str , steps : u8 , __cw_arg_2 : (u8 , u8)) -> :: std :: sync :: Arc < Model >";
        assert!(text.contains(head), "{text}");
        assert!(text.contains("Loads it") && text.contains("# [inline]"), "{text}");
        assert!(
            text.contains("fn __cw_compute (path : & str , mut steps : u8 , (a , b) : (u8 , u8)) -> Model")
        );
        assert!(text.contains("\"model\") , 16usize"), "{text}");
        assert!(text.contains("add :: < str > (\"path\" , path)"), "{text}");
        assert!(text.contains("add :: < u8 > (\"steps\" , & steps)"), "{text}");
        assert!(!text.contains("Fallible"), "{text}");
    }

    #[test]
    fn an_error_is_beside_the_arc() {
        let head = |ty: TokenStream| {
            let text = expanded(quote!(entries = 64), quote!(fn f() -> #ty { g() }));
            assert!(text.contains("get_or_try") && text.contains("64usize"), "{text}");
            text.split(" { fn __cw_compute").next().expect("a head").to_owned()
        };
        assert_eq!(
            head(quote!(Result<Model, String>)),
            "fn f () -> Result < :: std :: sync :: Arc < Model > , String >"
        );
        assert_eq!(
            head(quote!(anyhow::Result<Model>)),
            "fn f () -> anyhow :: Result < :: std :: sync :: Arc < Model > >"
        );
        let alias = head(quote!(fmt::Result));
        assert!(alias.contains("< fmt :: Result as :: cw :: __private :: Fallible > :: Ok"), "{alias}");
    }

    #[test]
    fn without_arguments_or_result() {
        let text = expanded(
            TokenStream::new(),
            quote!(
                fn warm() {}
            ),
        );
        assert!(text.contains("-> :: std :: sync :: Arc < () >"), "{text}");
        assert!(text.contains("let __cw_key"), "{text}");
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let cases = [
            (
                quote!(
                    async fn f() {}
                ),
                "a cached function cannot be async",
            ),
            (
                quote!(
                    fn f<T>() {}
                ),
                "a cached function cannot be generic",
            ),
            (
                quote!(
                    unsafe fn f() {}
                ),
                "a cached function cannot be unsafe",
            ),
            (
                quote!(
                    const fn f() {}
                ),
                "a cached function cannot be `const fn`",
            ),
            (
                quote!(
                    fn f(x: &mut u8) {}
                ),
                "a cached function's argument cannot be `&mut`",
            ),
            (
                quote!(
                    fn f(x: Option<&str>) {}
                ),
                "a cached function borrows only whole arguments",
            ),
            (
                quote!(
                    fn f() -> &str {}
                ),
                "a cached function returns owned values: the result is kept",
            ),
            (
                quote!(
                    fn f() -> impl Copy {}
                ),
                "a cached function's result needs a concrete type",
            ),
            (
                quote!(
                    struct S;
                ),
                "#[cw::cache] goes on a free function",
            ),
        ];
        for (item, sentence) in cases {
            let text = expanded(TokenStream::new(), item);
            assert_eq!(text.matches("compile_error").count(), 1, "{text}");
            assert!(text.contains(sentence) && !text.contains("__CW_CACHE"), "no {sentence:?}: {text}");
        }
        let method = cache(
            TokenStream::new(),
            quote!(
                fn f(&self) {}
            ),
        )
        .to_string();
        assert!(method.contains("a cached function cannot take `self`"), "{method}");
        for options in
            [quote!(entries = 0), quote!(entries), quote!(64), quote!(entries = -1), quote!(size = 2)]
        {
            let text = expanded(
                options,
                quote!(
                    fn f() {}
                ),
            );
            assert!(text.contains("takes one option"), "{text}");
        }
    }
}
