//! The grammar of text forms: `name(value, key=value, ...)`, values being words, numbers or such calls.

use core::str::FromStr;

use crate::error::ParseError;

/// The arguments of a strategy in a text form, taken one by one.
///
/// Positional ones come first. [`finish`](Self::finish) reports what nobody took.
#[derive(Debug, Clone)]
pub struct Arguments<'t> {
    name: &'t str,
    positional: Vec<&'t str>,
    taken: usize,
    named: Vec<(&'t str, &'t str)>,
}

impl<'t> Arguments<'t> {
    /// The strategy's name.
    pub const fn name(&self) -> &'t str {
        self.name
    }

    /// The next positional argument, if there is one.
    pub fn positional(&mut self) -> Option<&'t str> {
        let next = self.positional.get(self.taken).copied();
        self.taken += usize::from(next.is_some());
        next
    }

    /// The argument `key`, if it is given.
    pub fn optional(&mut self, key: &str) -> Option<&'t str> {
        let at = self.named.iter().position(|(name, _)| *name == key)?;
        Some(self.named.swap_remove(at).1)
    }

    /// The argument `key`.
    ///
    /// # Errors
    ///
    /// [`ParseError::Argument`] if it is missing.
    pub fn required(&mut self, key: &str) -> Result<&'t str, ParseError> {
        self.optional(key).ok_or_else(|| self.problem(key, "missing"))
    }

    /// The argument `key` read as a `T`, if it is given.
    ///
    /// # Errors
    ///
    /// That of reading it.
    pub fn parse<T: FromStr<Err = ParseError>>(&mut self, key: &str) -> Result<Option<T>, ParseError> {
        self.optional(key).map(str::parse).transpose()
    }

    /// Reports what nobody took.
    ///
    /// # Errors
    ///
    /// [`ParseError::Argument`] for the first argument left.
    pub fn finish(self) -> Result<(), ParseError> {
        let left = self.positional.get(self.taken).copied().or(self.named.first().map(|(key, _)| *key));
        left.map_or(Ok(()), |argument| Err(self.problem(argument, "unknown")))
    }

    pub(crate) fn problem(&self, argument: &str, problem: &'static str) -> ParseError {
        ParseError::Argument { name: self.name.to_owned(), argument: argument.to_owned(), problem }
    }
}

/// A number read by the rules of `T`, for instance `usize`.
pub(crate) fn number<T: FromStr>(what: &'static str, text: &str) -> Result<T, ParseError> {
    text.parse().map_err(|_| ParseError::Number { what, text: text.to_owned() })
}

/// `name` or `name(arguments)`.
pub(crate) fn call(text: &str) -> Result<Arguments<'_>, ParseError> {
    let text = text.trim();
    let (name, inner) = match text.find('(') {
        None => (text, ""),
        Some(open) => match text.strip_suffix(')') {
            Some(body) => (text[..open].trim_end(), &body[open + 1..]),
            None => return Err(syntax(text, text.chars().count(), "a closing parenthesis")),
        },
    };
    if !is_name(name) {
        return Err(syntax(text, 0, "a name of lower-case words joined by hyphens"));
    }
    let mut arguments = Arguments { name, positional: Vec::new(), taken: 0, named: Vec::new() };
    /// More than any strategy takes, and few enough to be looked through.
    const MAX_ARGUMENTS: usize = 256;
    for part in split(inner, ',').map_err(|position| syntax(text, position, "balanced parentheses"))? {
        if arguments.positional.len() + arguments.named.len() >= MAX_ARGUMENTS {
            return Err(arguments.problem("list", "too long"));
        }
        match key_and_value(part) {
            Some((key, value)) => {
                if arguments.named.iter().any(|(other, _)| *other == key) {
                    return Err(arguments.problem(key, "given twice"));
                }
                arguments.named.push((key, value));
            }
            None if arguments.named.is_empty() => arguments.positional.push(part),
            None => return Err(arguments.problem(part, "without a key after arguments with keys")),
        }
    }
    Ok(arguments)
}

/// `key=value`, the key being a name.
pub(crate) fn key_and_value(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=')?;
    is_name(key.trim()).then_some((key.trim(), value.trim()))
}

/// The parts of `text` between `separator`s outside parentheses, trimmed; none for an empty text. On
/// parentheses that do not balance, the place in characters where that shows.
pub(crate) fn split(text: &str, separator: char) -> Result<Vec<&str>, usize> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (position, (at, c)) in text.char_indices().enumerate() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1).ok_or(position)?,
            c if c == separator && depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(text.chars().count());
    }
    let last = text[start..].trim();
    if !last.is_empty() || !parts.is_empty() {
        parts.push(last);
    }
    Ok(parts)
}

/// Lower-case words and digits joined by hyphens, starting with a letter.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

pub(crate) fn syntax(text: &str, position: usize, expected: &'static str) -> ParseError {
    ParseError::Syntax { text: text.to_owned(), position, expected }
}
