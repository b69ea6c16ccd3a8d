//! `max_bytes`: how long arguments and result of a job may be, as a number or as people write sizes.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, Lit};

use crate::text::at;

/// The most that may be said; the runtime has the same number and checks what only the compiler can compute.
const BYTES_MAX: u64 = 2 << 30;

const OUT_OF_RANGE: &str = "`max_bytes` has to be between 1 byte and 2 GiB: pass what is larger as a file";

/// A number of bytes.
pub(crate) enum Size {
    /// Read and checked here.
    Bytes(u64),
    /// An expression, which the compiler computes and checks.
    Computed(Expr),
}

impl Size {
    pub(crate) fn read(value: Expr) -> syn::Result<Self> {
        let Expr::Lit(literal) = &value else { return Ok(Self::Computed(value)) };
        let bytes = match &literal.lit {
            Lit::Int(number) => number.base10_parse().ok(),
            Lit::Str(text) => Some(parse_size(&text.value()).ok_or_else(|| unreadable(&value, text))?),
            _ => return Err(syn::Error::new_spanned(value, not_a_size())),
        };
        match bytes {
            Some(bytes) if (1..=BYTES_MAX).contains(&bytes) => Ok(Self::Bytes(bytes)),
            _ => Err(syn::Error::new_spanned(value, OUT_OF_RANGE)),
        }
    }
}

/// As the value of a `usize` constant.
impl ToTokens for Size {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(match self {
            Self::Bytes(bytes) => quote!(#bytes as usize),
            Self::Computed(value) => quote_spanned! {at(value.span())=> {
                let bytes: usize = #value;
                ::core::assert!(bytes >= 1 && bytes <= ::cw::__private::PAYLOAD_BYTES_MAX, #OUT_OF_RANGE);
                bytes
            }},
        });
    }
}

fn not_a_size() -> &'static str {
    "`max_bytes` takes a number of bytes or a size in quotes, like `256 << 20` or \"256 MiB\""
}

fn unreadable(value: &Expr, text: &syn::LitStr) -> syn::Error {
    let units = "B, kB, MB, GB, KiB, MiB or GiB";
    let sentence = format!(
        "cannot read the size {:?}: write a whole number and {units}, like \"256 MiB\"",
        text.value()
    );
    syn::Error::new_spanned(value, sentence)
}

/// Bytes; what does not fit counts as the largest number there is, which is out of range.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    if number.is_empty() {
        return None;
    }
    let unit = unit_bytes(unit.trim_start())?;
    Some(number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).unwrap_or(u64::MAX))
}

fn unit_bytes(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tokens: TokenStream) -> Result<Size, String> {
        Size::read(syn::parse2(tokens).expect("an expression")).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_as_people_write_them() {
        let sizes = [
            ("1 B", 1),
            ("256 MiB", 256 << 20),
            ("2GiB", 2 << 30),
            (" 3 kb ", 3_000),
            ("4KIB", 4 << 10),
            ("5 MB", 5_000_000),
            ("1gb", 1_000_000_000),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text), Some(bytes), "{text:?}");
            assert!(matches!(read(quote!(#text)), Ok(Size::Bytes(found)) if found == bytes), "{text:?}");
        }
        for wrong in ["", "MiB", "12", "1.5 MiB", "-1 B", "1 TB", "1 MiB 2", "1 M iB"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
            assert!(read(quote!(#wrong)).is_err_and(|why| why.starts_with("cannot read the size")));
        }
    }

    #[test]
    fn what_is_out_of_range_or_no_size_is_told() {
        for tokens in [
            quote!(0),
            quote!("0 B"),
            quote!(2147483649),
            quote!("3 GiB"),
            quote!("99999999999999999999 GiB"),
            quote!(99999999999999999999),
        ] {
            assert_eq!(read(tokens.clone()).err().as_deref(), Some(OUT_OF_RANGE), "{tokens}");
        }
        assert!(read(quote!(true)).is_err_and(|why| why.starts_with("`max_bytes` takes")));
        assert!(read(quote!(1.5)).is_err_and(|why| why.starts_with("`max_bytes` takes")));
    }

    #[test]
    fn an_expression_is_left_to_the_compiler() {
        let Ok(size) = read(quote!(LIMIT << 20)) else { panic!("refused") };
        let text = size.to_token_stream().to_string();
        assert!(text.contains("let bytes : usize = LIMIT << 20"), "{text}");
        assert!(text.contains("assert !") && text.contains("PAYLOAD_BYTES_MAX"), "{text}");
    }
}
