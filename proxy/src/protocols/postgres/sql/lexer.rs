//! Words, strings and signs of SQL as PostgreSQL cuts them, enough to see where a statement begins and what it names.

/// A piece of SQL; white space and comments are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword or a name without quotes, or a number.
    Word(&'a [u8]),
    /// `"…"` without its quotes; quotes inside are still doubled.
    Name(&'a [u8]),
    /// `'…'` without its quotes, where only the quote is special; quotes inside are still doubled.
    Text(&'a [u8]),
    /// Another literal: with escapes, of bits, or in dollars.
    Literal,
    /// Any other character.
    Sign(u8),
}

/// Cuts a text. What has no end ends with the text.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Where the next token is looked for.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn skip_blank(&mut self) {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => self.at += 1,
                (b'-', b'-') => {
                    let line = &self.text[self.at..];
                    self.at += line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len());
                }
                (b'/', b'*') => self.skip_comment(),
                _ => return,
            }
        }
    }

    /// Comments in signs nest.
    fn skip_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// Behind the opening quote: up to the closing one, which is taken too.
    fn quoted(&mut self, quote: u8, backslash: Backslash) -> &'a [u8] {
        let start = self.at;
        while self.at < self.text.len() {
            let byte = self.text[self.at];
            self.at += 1;
            if byte == b'\\' && backslash == Backslash::Escapes {
                self.at += 1;
            } else if byte == quote {
                if self.peek(0) != quote {
                    return &self.text[start..self.at - 1];
                }
                self.at += 1;
            }
        }
        self.at = self.text.len();
        &self.text[start..]
    }

    /// Behind the first dollar; whether it opens a literal, which is then taken.
    fn dollars(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let tag = rest.iter().take_while(|byte| is_word(**byte) && **byte != b'$').count();
        if rest.get(tag) != Some(&b'$') || rest.first().is_some_and(u8::is_ascii_digit) {
            return false;
        }
        let end = &self.text[self.at - 1..=self.at + tag];
        self.at += tag + 1;
        let body = &self.text[self.at..];
        self.at += body.windows(end.len()).position(|here| here == end).map_or(body.len(), |at| at + end.len());
        true
    }
}

/// Whether a backslash hides the quote behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backslash {
    Escapes,
    Plain,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let first = *self.text.get(self.at)?;
        let start = self.at;
        self.at += 1;
        Some(match first {
            b'\'' => Token::Text(self.quoted(b'\'', Backslash::Plain)),
            b'"' => Token::Name(self.quoted(b'"', Backslash::Plain)),
            b'$' if self.dollars() => Token::Literal,
            _ if is_word(first) && first != b'$' => {
                while self.at < self.text.len() && is_word(self.text[self.at]) {
                    self.at += 1;
                }
                let word = &self.text[start..self.at];
                if self.peek(0) == b'\'' && word.len() == 1 {
                    self.at += 1;
                    let escapes = word.eq_ignore_ascii_case(b"e");
                    self.quoted(b'\'', if escapes { Backslash::Escapes } else { Backslash::Plain });
                    return Some(Token::Literal);
                }
                Token::Word(word)
            }
            sign => Token::Sign(sign),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<Token<'_>> {
        Lexer::new(text.as_bytes()).collect()
    }

    #[test]
    fn comments_and_literals_hide_what_is_in_them() {
        assert_eq!(
            cut("a /* b /* c */ ; */ 'it''s; ' -- ; x\n\"q\"\"; \";"),
            [Token::Word(b"a"), Token::Text(b"it''s; "), Token::Name(b"q\"\"; "), Token::Sign(b';')]
        );
        assert_eq!(cut(r"E'a\'; ' b"), [Token::Literal, Token::Word(b"b")]);
        assert_eq!(cut("$$;$$ $x$ ; $$ $x$ c"), [Token::Literal, Token::Literal, Token::Word(b"c")]);
        assert_eq!(cut("$1;"), [Token::Sign(b'$'), Token::Word(b"1"), Token::Sign(b';')]);
        assert_eq!(cut("a$b"), [Token::Word(b"a$b")]);
        assert_eq!(cut("'no end"), [Token::Text(b"no end")]);
    }

    proptest! {
        #[test]
        fn any_text_is_cut_in_one_pass(text in "[-a-eE'\"$/*\\\\; \n1]{0,60}") {
            let count = cut(&text).len();
            prop_assert!(count <= text.len());
        }
    }
}
