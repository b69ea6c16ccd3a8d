//! Tokens as people write them.

use proc_macro2::Span;
use quote::ToTokens;
use syn::Type;

/// The tokens with a space only where two words would run together: `Vec<u8>`, `&dyn Error`.
///
/// The compiler's own printing puts spaces and line ends where they suit it, and those are not part of a signature.
pub(crate) fn compact(tokens: impl ToTokens) -> String {
    let printed = tokens.to_token_stream().to_string();
    let mut text = String::with_capacity(printed.len());
    for word in printed.split_whitespace() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        if text.ends_with(is_word) && word.starts_with(is_word) {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

/// The type itself: one that came through `macro_rules!` sits in an invisible group.
pub(crate) fn ungroup(mut ty: Type) -> Type {
    loop {
        ty = match ty {
            Type::Group(group) => *group.elem,
            Type::Paren(paren) => *paren.elem,
            other => return other,
        };
    }
}

/// The user's place in the file with our own hygiene, so that generated names resolve inside `macro_rules!` too.
pub(crate) fn at(span: Span) -> Span {
    span.resolved_at(Span::call_site())
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    #[test]
    fn types_read_as_written() {
        assert_eq!(compact(quote!(Vec<u8>)), "Vec<u8>");
        assert_eq!(compact(quote!(Box<dyn std::error::Error + Send>)), "Box<dyn std::error::Error+Send>");
        assert_eq!(compact(quote!(&[u8; 4])), "&[u8;4]");
        assert_eq!(compact(quote!(&'static str)), "&'static str");
    }
}
