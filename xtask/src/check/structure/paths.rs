//! Paths in code, and in the unparsed tokens of macros and attributes.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Whether a path is certainly no variable: it has more than one part, or begins like a type or a constant.
pub(super) fn is_no_variable(path: &[String]) -> bool {
    path.len() > 1 || path.iter().any(|name| name.starts_with(char::is_uppercase))
}

/// The likely paths in tokens: `a::b`, `Type`, `call()`.
pub(super) fn in_tokens(tokens: TokenStream) -> Vec<Vec<String>> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if let TokenTree::Group(group) = &tokens[at] {
            paths.extend(in_tokens(group.stream()));
        }
        let is_field = at > 0 && is_punct(&tokens[at - 1], '.');
        let mut path = Vec::new();
        while let Some(TokenTree::Ident(name)) = tokens.get(at) {
            path.push(name.to_string().trim_start_matches("r#").to_owned());
            at += 1;
            let continues =
                matches!(&tokens[at..], [a, b, TokenTree::Ident(_), ..] if is_punct(a, ':') && is_punct(b, ':'));
            if !continues {
                break;
            }
            at += 2;
        }
        let is_call =
            matches!(tokens.get(at), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis);
        if path.is_empty() {
            at += 1;
        } else if !is_field && (is_call || is_no_variable(&path)) {
            paths.push(path);
        }
    }
    paths
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_hold_paths() {
        let cases = [
            ("", vec![]),
            ("x, y", vec![]),
            ("crate::a::B, 1", vec!["crate::a::B"]),
            ("self.x(y)", vec![]),
            ("f(Kind::One, g(x))", vec!["f", "Kind::One", "g"]),
            ("a.b::<C>(), D::<u8>::e()", vec!["C", "D", "e"]),
            ("value_parser = values::duration", vec!["values::duration"]),
        ];
        for (text, want) in cases {
            let found: Vec<_> = in_tokens(text.parse().unwrap())
                .iter()
                .map(|path| path.join("::"))
                .collect();
            assert_eq!(found, want, "{text}");
        }
    }
}
