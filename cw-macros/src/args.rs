//! The options in `#[cw::job(..)]`.

use proc_macro2::TokenStream;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Expr, Ident, Lit, LitStr, Path, Token};

use crate::errors::Errors;
use crate::size::Size;

/// What was said about a job, each at most once.
#[derive(Default)]
pub(crate) struct Options {
    /// Replaces the path. An expression, since `cw::job_fn!` computes it with `concat!`.
    pub(crate) name: Option<Expr>,
    /// Names the job and leaves the function's own name to the function.
    pub(crate) handle: Option<Ident>,
    pub(crate) version: Option<u32>,
    pub(crate) retries: Option<u32>,
    pub(crate) timeout_millis: Option<u64>,
    pub(crate) max_bytes: Option<Size>,
    /// Whether a task may run a second time while its worker is silent.
    pub(crate) speculate: Option<bool>,
    /// Whether a task whose attempt was lost may run again.
    pub(crate) rerun: Option<bool>,
    /// Bytes up to which a store keeps arguments and result as JSON too; 0 is never.
    pub(crate) json_bytes: Option<u32>,
    /// A function of the arguments whose value tells calls apart.
    pub(crate) key: Option<Path>,
}

/// What may be said.
const NAMES: [&str; 10] =
    ["name", "handle", "version", "retries", "timeout", "max_bytes", "speculate", "rerun", "json", "key"];

/// `key` or `key = value`; every value is read as an expression first, so that one bad value hides no other.
struct Setting {
    key: Ident,
    value: Option<Expr>,
}

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let not_an_option = |error: syn::Error| {
            syn::Error::new(error.span(), "expected an option, like `retries = 2` or `timeout = \"10m\"`")
        };
        let key = input.parse().map_err(not_an_option)?;
        let equals = input.parse::<Option<Token![=]>>()?;
        if equals.is_none() && !input.is_empty() && !input.peek(Token![,]) {
            return Err(not_an_option(input.error("")));
        }
        let value = equals.map(|_| input.parse()).transpose()?;
        Ok(Self { key, value })
    }
}

impl Options {
    /// Reads what can be read; the rest goes to `errors`.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self::default();
        match Punctuated::<Setting, Token![,]>::parse_terminated.parse2(tokens) {
            Ok(settings) => settings.into_iter().for_each(|setting| options.set(setting, errors)),
            Err(error) => errors.add(error),
        }
        options
    }

    fn set(&mut self, Setting { key, value }: Setting, errors: &mut Errors) {
        let name = key.to_string();
        if !NAMES.contains(&name.as_str()) {
            let names = NAMES.join("`, `");
            return errors.push(key, format!("unknown #[cw::job] option; there are `{names}`"));
        }
        let Some(value) = value.map(ungroup) else {
            return errors.push(key, format!("`{name}` needs a value: `{name} = ..`"));
        };
        let given = match name.as_str() {
            "name" => job_name(value).and_then(|name| set(&mut self.name, name, &key)),
            "handle" => handle(value).and_then(|handle| set(&mut self.handle, handle, &key)),
            "version" => number(&value).and_then(|version| set(&mut self.version, version, &key)),
            "retries" => number(&value).and_then(|retries| set(&mut self.retries, retries, &key)),
            "max_bytes" => Size::read(value).and_then(|size| set(&mut self.max_bytes, size, &key)),
            "speculate" => speculate(&value).and_then(|yes| set(&mut self.speculate, yes, &key)),
            "rerun" => rerun(&value).and_then(|always| set(&mut self.rerun, always, &key)),
            "json" => json(&value).and_then(|bytes| set(&mut self.json_bytes, bytes, &key)),
            "key" => path(value).and_then(|path| set(&mut self.key, path, &key)),
            _ => timeout(&value).and_then(|millis| set(&mut self.timeout_millis, millis, &key)),
        };
        match given {
            Err(error) => errors.add(error),
            Ok(()) => self.check_together(key, errors),
        }
    }

    /// What the option that was just set does not allow beside it.
    fn check_together(&self, key: Ident, errors: &mut Errors) {
        let is_one = key == "speculate" || key == "rerun";
        if is_one && (self.speculate, self.rerun) == (Some(true), Some(false)) {
            let sentence =
                "`speculate = true` lets a task run twice, which `rerun = \"never\"` forbids: leave one out";
            errors.push(key, sentence);
        }
    }
}

fn set<T>(slot: &mut Option<T>, value: T, key: &Ident) -> syn::Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(syn::Error::new_spanned(key, format!("`{key}` is given twice"))),
    }
}

/// A literal that came through `macro_rules!` sits in an invisible group.
fn ungroup(value: Expr) -> Expr {
    match value {
        Expr::Group(group) => ungroup(*group.expr),
        other => other,
    }
}

fn job_name(value: Expr) -> syn::Result<Expr> {
    let problem = match &value {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) if text.value().is_empty() => "a job's name cannot be empty",
            Lit::Str(_) => return Ok(value),
            _ => "`name` takes a text, like `name = \"app::square\"`",
        },
        _ => return Ok(value),
    };
    Err(syn::Error::new_spanned(value, problem))
}

fn handle(value: Expr) -> syn::Result<Ident> {
    match &value {
        Expr::Path(path) if path.attrs.is_empty() => path.path.get_ident().cloned(),
        _ => None,
    }
    .ok_or_else(|| {
        syn::Error::new_spanned(value, "`handle` takes a name for the job, like `handle = Square`")
    })
}

fn number(value: &Expr) -> syn::Result<u32> {
    let Expr::Lit(literal) = value else {
        return Err(not_a_number(value));
    };
    match &literal.lit {
        Lit::Int(number) => number.base10_parse().map_err(|_| not_a_number(value)),
        _ => Err(not_a_number(value)),
    }
}

fn not_a_number(value: &Expr) -> syn::Error {
    syn::Error::new_spanned(value, "this takes a whole number from 0 to 4294967295, like `3`")
}

fn speculate(value: &Expr) -> syn::Result<bool> {
    match value {
        Expr::Lit(syn::ExprLit { lit: Lit::Bool(yes), .. }) => Ok(yes.value),
        _ => Err(syn::Error::new_spanned(value, "`speculate` takes `true` or `false`")),
    }
}

fn json(value: &Expr) -> syn::Result<u32> {
    let problem =
        "`json` takes `false`, or how many bytes a store keeps as JSON at most, like `json = 65536`";
    match value {
        Expr::Lit(syn::ExprLit { lit: Lit::Bool(yes), .. }) if !yes.value => Ok(0),
        Expr::Lit(syn::ExprLit { lit: Lit::Int(number), .. }) => {
            number.base10_parse().map_err(|_| syn::Error::new_spanned(value, problem))
        }
        _ => Err(syn::Error::new_spanned(value, problem)),
    }
}

fn path(value: Expr) -> syn::Result<Path> {
    match value {
        Expr::Path(path) if path.attrs.is_empty() && path.qself.is_none() => Ok(path.path),
        other => Err(syn::Error::new_spanned(
            other,
            "`key` takes a function of references to the arguments, like `key = run_name` with `fn run_name(seed: &u64) -> String`",
        )),
    }
}

fn rerun(value: &Expr) -> syn::Result<bool> {
    let text = match value {
        Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) => text.value(),
        _ => String::new(),
    };
    match text.as_str() {
        "always" => Ok(true),
        "never" => Ok(false),
        _ => Err(syn::Error::new_spanned(value, "`rerun` takes \"always\" or \"never\"")),
    }
}

fn timeout(value: &Expr) -> syn::Result<u64> {
    match value {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => duration_millis(text),
            _ => Err(not_a_duration(value)),
        },
        _ => Err(not_a_duration(value)),
    }
}

fn not_a_duration(value: &Expr) -> syn::Error {
    syn::Error::new_spanned(value, "`timeout` takes a time in quotes, like \"90s\" or \"1h30m\"")
}

/// Reads "1h30m" here, so that a typing error costs a build and not a run.
fn duration_millis(text: &LitStr) -> syn::Result<u64> {
    let problem = match parse_duration(&text.value()) {
        Some(0) => "a timeout of zero would end every attempt at once; leave it out for none".to_owned(),
        Some(millis) => return Ok(millis),
        None => format!(
            "cannot read the timeout {:?}: write numbers with ms, s, m, h or d, like \"90s\" or \"1h30m\"",
            text.value()
        ),
    };
    Err(syn::Error::new(text.span(), problem))
}

fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: Option<u64> = None;
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, after) = split_where(after, |c| c.is_ascii_digit());
        let millis = number.parse::<u64>().ok()?.checked_mul(unit_millis(unit.trim())?)?;
        total = Some(total.unwrap_or(0).checked_add(millis)?);
        rest = after;
    }
    total
}

fn split_where(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

fn unit_millis(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn parse(tokens: TokenStream) -> (Options, Vec<String>) {
        let mut errors = Errors::default();
        let options = Options::parse(tokens, &mut errors);
        (options, errors.sentences())
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("90s"), Some(90_000));
        assert_eq!(parse_duration("1h30m"), Some(5_400_000));
        assert_eq!(parse_duration(" 2d 4 h "), Some(187_200_000));
        assert_eq!(parse_duration("250ms"), Some(250));
        for wrong in ["", "  ", "10", "s", "10 parsecs", "1.5h", "-1s", "999999999999999d"] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn all_options() {
        let (options, errors) = parse(quote! {
            name = concat!("a", "b"), handle = Square, version = 3, retries = 2, timeout = "10m",
            max_bytes = "1 KiB", speculate = false, rerun = "never", json = 65536, key = names::of_run,
        });
        assert!(errors.is_empty(), "{errors:?}");
        assert!(options.name.is_some());
        assert_eq!(options.handle.unwrap(), "Square");
        assert_eq!((options.version, options.retries), (Some(3), Some(2)));
        assert_eq!(options.timeout_millis, Some(600_000));
        assert!(matches!(options.max_bytes, Some(Size::Bytes(1024))));
        assert_eq!((options.speculate, options.rerun), (Some(false), Some(false)));
        assert_eq!((options.json_bytes, options.key.is_some()), (Some(65_536), true));
        assert_eq!(parse(quote!(json = false)).0.json_bytes, Some(0));
    }

    #[test]
    fn one_bad_option_hides_no_other() {
        let (options, errors) =
            parse(quote!(retry = 3, timeout = "10 parsecs", retries = -1, version, handle = a::B));
        assert_eq!(options.retries, None);
        assert_eq!(
            errors,
            [
                "unknown #[cw::job] option; there are `name`, `handle`, `version`, `retries`, `timeout`, `max_bytes`, `speculate`, `rerun`, `json`, `key`",
                "cannot read the timeout \"10 parsecs\": write numbers with ms, s, m, h or d, like \"90s\" or \"1h30m\"",
                "this takes a whole number from 0 to 4294967295, like `3`",
                "`version` needs a value: `version = ..`",
                "`handle` takes a name for the job, like `handle = Square`",
            ]
        );
    }

    #[test]
    fn values_of_the_wrong_kind() {
        let sentence = |tokens| parse(tokens).1.concat();
        assert_eq!(
            sentence(quote!(timeout = 10)),
            "`timeout` takes a time in quotes, like \"90s\" or \"1h30m\""
        );
        assert!(sentence(quote!(timeout = "0s")).starts_with("a timeout of zero"));
        assert_eq!(sentence(quote!(name = "")), "a job's name cannot be empty");
        assert!(sentence(quote!(retries: 2)).starts_with("expected an option, like `retries = 2`"));
        assert!(sentence(quote!(name = 7)).starts_with("`name` takes a text"));
        assert_eq!(sentence(quote!(retries = 1, retries = 2)), "`retries` is given twice");
        assert!(sentence(quote!(retries = 4294967296)).starts_with("this takes a whole number"));
        for wrong in [quote!(speculate = 1), quote!(speculate = "true"), quote!(speculate = maybe)] {
            assert_eq!(sentence(wrong), "`speculate` takes `true` or `false`");
        }
        for wrong in [quote!(rerun = false), quote!(rerun = "once"), quote!(rerun = never)] {
            assert_eq!(sentence(wrong), "`rerun` takes \"always\" or \"never\"");
        }
        for wrong in [quote!(json = true), quote!(json = "4 KiB"), quote!(json = 5000000000)] {
            assert!(sentence(wrong).starts_with("`json` takes `false`, or how many bytes"));
        }
        for wrong in [quote!(key = 3), quote!(key = "f"), quote!(key = |n| n)] {
            assert!(sentence(wrong).starts_with("`key` takes a function of references"));
        }
    }

    #[test]
    fn what_must_not_run_twice_cannot_be_speculated_on() {
        for both in [
            quote!(speculate = true, rerun = "never"),
            quote!(rerun = "never", retries = 2, speculate = true),
        ] {
            let (_, errors) = parse(both);
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].starts_with("`speculate = true` lets a task run twice"), "{errors:?}");
        }
        assert!(parse(quote!(speculate = false, rerun = "never")).1.is_empty());
        assert!(parse(quote!(speculate = true, rerun = "always")).1.is_empty());
    }
}
