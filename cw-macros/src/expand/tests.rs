//! The expansion on token streams; that it compiles is for the tests of the facade.

use super::*;

fn expanded(options: TokenStream, item: TokenStream) -> String {
    let tokens = job(options, item);
    syn::parse2::<syn::File>(tokens.clone()).expect("the expansion is a list of items");
    tokens.to_string()
}

fn sentences(item: TokenStream) -> Vec<String> {
    let func = syn::parse2(item).expect("the test gives functions");
    let mut errors = Errors::default();
    let _ = Job::read(func, &mut errors);
    errors.sentences()
}

#[test]
fn a_plain_function_becomes_a_job() {
    let text = expanded(
        TokenStream::new(),
        quote!(
            pub fn total(xs: Vec<u64>, name: &str) -> u64 {
                0
            }
        ),
    );
    assert!(!text.contains("compile_error"), "{text}");
    assert!(text.contains("pub struct total ;"), "{text}");
    assert!(text.contains("\"(Vec<u64>,&str)->u64\""), "{text}");
    assert!(text.contains("fn total(xs: Vec<u64>, name: &str) -> u64"), "{text}");
    assert!(text.contains("Run :: Sync"), "{text}");
}

#[test]
fn an_async_function_becomes_an_async_job() {
    let text = expanded(
        quote!(retries = 2, timeout = "1s", max_bytes = "1 GiB", speculate = false, rerun = "never"),
        quote!(
            async fn f(x: u8) -> io::Result<u8> {
                Ok(x)
            }
        ),
    );
    assert!(text.contains("Run :: Async"), "{text}");
    assert!(text.contains("from_millis (1000u64)"), "{text}");
    assert!(text.contains("const MAX_BYTES : usize = 1073741824u64 as usize"), "{text}");
    assert!(text.contains("const SPECULATE : bool = false ; const RERUN : bool = false ;"), "{text}");
    assert!(text.contains("Fallible"), "{text}");
}

#[test]
fn a_bad_option_leaves_the_job_whole() {
    let text = expanded(
        quote!(retry = 3),
        quote!(
            fn f(x: u8) -> u8 {
                x
            }
        ),
    );
    assert!(text.contains("unknown #[cw::job] option"), "{text}");
    assert!(text.contains("submit !"), "{text}");
}

#[test]
fn a_bad_signature_leaves_a_stub() {
    let text = expanded(
        TokenStream::new(),
        quote!(
            fn f<T>(x: &mut T) {}
        ),
    );
    assert!(text.contains("type __CwError = [() ; :: core :: compile_error !"), "{text}");
    assert!(text.contains("cannot be `&mut`"), "{text}");
    assert!(!text.contains("submit !"), "{text}");
}

#[test]
fn what_is_no_function_stays_as_it_is() {
    let text = expanded(
        TokenStream::new(),
        quote!(
            struct Q;
        ),
    );
    assert!(text.starts_with("struct Q ;") && text.contains("goes on a free function with a body"), "{text}");
    let text = job(
        TokenStream::new(),
        quote!(
            fn method(&self) {}
        ),
    )
    .to_string();
    assert!(!text.contains("struct") && text.contains("cannot take `self`"), "{text}");
}

#[test]
fn each_mistake_has_its_sentence() {
    let cases = [
        (
            quote!(
                fn f<T>(x: u8) {}
            ),
            "a job cannot be generic",
        ),
        (
            quote!(
                fn f<const N: usize>(x: u8) {}
            ),
            "const generics",
        ),
        (
            quote!(
                fn f<'a>(x: u8) {}
            ),
            "cannot name lifetimes",
        ),
        (
            quote!(
                fn f(x: &'a str) {}
            ),
            "cannot name lifetimes",
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
                unsafe fn f() {}
            ),
            "cannot be unsafe",
        ),
        (
            quote!(
                const fn f() {}
            ),
            "cannot be `const fn`",
        ),
        (
            quote!(
                extern "C" fn f() {}
            ),
            "Rust's own ABI",
        ),
        (
            quote!(
                fn f(&self) {}
            ),
            "cannot take `self`",
        ),
        (
            quote!(
                fn f(x: u8) -> Option<Self> {}
            ),
            "cannot stand in an `impl`",
        ),
        (
            quote!(
                fn f<'a>(x: &'a str, y: &'a str) {}
            ),
            "cannot name lifetimes",
        ),
        (
            quote!(
                fn f<T>(x: T)
                where
                    T: Copy,
                {
                }
            ),
            "a job cannot be generic",
        ),
        (
            quote!(
                fn f(x: &mut u8) {}
            ),
            "cannot be `&mut`",
        ),
        (
            quote!(
                fn f(x: impl Copy) {}
            ),
            "argument needs a concrete type, not `impl Trait`",
        ),
        (
            quote!(
                fn f(x: &dyn Debug) {}
            ),
            "argument needs a concrete type, not `dyn Trait`",
        ),
        (
            quote!(
                fn f(x: Option<&str>) {}
            ),
            "borrows only whole arguments",
        ),
        (
            quote!(
                fn f(x: &[&str]) {}
            ),
            "borrows only whole arguments",
        ),
        (
            quote!(
                fn f() -> impl Copy {}
            ),
            "result needs a concrete type",
        ),
        (
            quote!(
                fn f() -> ! {}
            ),
            "a job has to return",
        ),
        (
            quote!(
                fn f() -> &str {}
            ),
            "returns owned values",
        ),
        (
            quote!(
                fn f(#[cfg(a)] x: u8) {}
            ),
            "cannot be conditional",
        ),
    ];
    for (item, sentence) in cases {
        let found = sentences(item);
        assert!(found.len() == 1 && found[0].contains(sentence), "{sentence:?}: {found:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    assert_eq!(
        sentences(quote!(
            unsafe fn f<T>(&self, x: &mut u8, y: impl Copy) -> ! {}
        ))
        .len(),
        6
    );
}

#[test]
fn the_texts_hash_knows_the_text_and_the_key_and_not_the_layout() {
    let hash = |options: TokenStream, item: &str| {
        let text = expanded(options, item.parse().expect("tokens"));
        let (_, rest) = text.split_once("const BODY : u64 = ").expect("it has one");
        rest.split_once(';').expect("a number").0.to_owned()
    };
    let plain = hash(quote!(), "fn f(n: u64) -> u64 { n + 1 }");
    assert_eq!(plain, hash(quote!(retries = 2), "fn f(n: u64) -> u64 {\n  /* more */ n + 1 }"));
    assert_ne!(plain, hash(quote!(), "fn f(n: u64) -> u64 { n + 2 }"));
    let keyed = hash(quote!(key = by_one), "fn f(n: u64) -> u64 { n + 1 }");
    assert_ne!(plain, keyed);
    assert_ne!(keyed, hash(quote!(key = by_other), "fn f(n: u64) -> u64 { n + 1 }"));
}
