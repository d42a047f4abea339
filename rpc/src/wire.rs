//! Where one JSON value ends and the next begins.
//!
//! SPDK's socket carries bare JSON values with nothing between them, pretty-printed by one client and compact by the next. So the
//! reader has to know the grammar to know the boundary. [`Scanner`] is that grammar as a push-down machine that takes one byte at a
//! time: it remembers where it was when the bytes ran out, so a request that arrives in a thousand pieces is still read once.
//!
//! ```text
//!   socket ─► Framer::push ─► Scanner::step per byte ─► a whole value ─► serde_json
//!                               │ wrong byte: at once      │ bad UTF-8, lone surrogate, 1e999: then
//!                               └──────────────► Syntax ◄──┘
//! ```
//!
//! Bounds (PEERS: the limits of SPDK's server): 256 KiB a request, 64 levels, 8192 tokens.

use serde_json::Value;

/// The largest request in bytes; a longer one closes the connection.
pub const REQUEST_LIMIT: usize = 256 * 1024;
/// The deepest nesting of arrays and objects.
pub const DEPTH_LIMIT: u32 = 64;
/// The most tokens (names, values, opening and closing brackets) in one request.
pub const TOKEN_LIMIT: u32 = 8192;

/// Why a stream of values cannot be read on.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not JSON. Answered with −32700, then the connection is closed.
    #[error("not JSON")]
    Syntax,
    /// More than the limit without an end. Closed without an answer, as SPDK does.
    #[error("request longer than the limit")]
    TooLong,
}

/// What the scanner expects next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Expect {
    /// A value (at the top, after a colon or after a comma in an array).
    Value,
    /// A value or the end of the array just opened.
    FirstItem,
    /// A name or the end of the object just opened.
    FirstName,
    /// A name (after a comma in an object).
    Name,
    Colon,
    /// A comma or a closing bracket.
    Next,
    /// Inside a string; `name` tells what follows it.
    String {
        name: bool,
    },
    Escape {
        name: bool,
    },
    Hex {
        name: bool,
        left: u8,
    },
    /// Inside `true`, `false` or `null`: what is still to come.
    Word(&'static [u8]),
    Number(Digits),
}

/// Where in a number (RFC 8259 section 6) the scanner is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Digits {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    E,
    Sign,
    Exponent,
}

/// What one byte did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The value goes on.
    More,
    /// The value ends with this byte.
    End,
    /// The value (a bare number) ended before this byte, which was not used.
    EndBefore,
    /// No JSON value continues like this.
    Bad,
}

/// A push-down machine over the bytes of one JSON value.
#[derive(Clone, Debug)]
pub struct Scanner {
    token_limit: u32,
    expect: Expect,
    /// One bit a level, the innermost lowest: set for an object.
    objects: u64,
    depth: u32,
    tokens: u32,
}

impl Default for Scanner {
    fn default() -> Self {
        Scanner {
            token_limit: TOKEN_LIMIT,
            expect: Expect::Value,
            objects: 0,
            depth: 0,
            tokens: 0,
        }
    }
}

impl Scanner {
    /// Takes one byte. After [`Step::End`], [`Step::EndBefore`] or [`Step::Bad`] the scanner must be replaced.
    pub fn step(&mut self, byte: u8) -> Step {
        use Expect::*;
        match self.expect {
            String { name } => match byte {
                b'"' if name => self.go(Colon),
                b'"' => self.value_done(),
                b'\\' => self.go(Escape { name }),
                0..=0x1f => Step::Bad,
                _ => Step::More,
            },
            Escape { name } => match byte {
                b'u' => self.go(Hex { name, left: 4 }),
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.go(String { name }),
                _ => Step::Bad,
            },
            Hex { name, left } => match (byte.is_ascii_hexdigit(), left) {
                (false, _) => Step::Bad,
                (true, 1) => self.go(String { name }),
                (true, _) => self.go(Hex { name, left: left - 1 }),
            },
            Word(rest) => match rest {
                [last] if *last == byte => self.value_done(),
                [first, tail @ ..] if *first == byte => self.go(Word(tail)),
                _ => Step::Bad,
            },
            Number(at) => match digit(at, byte) {
                Some(next) => self.go(Number(next)),
                None if !matches!(at, Digits::Zero | Digits::Whole | Digits::Fraction | Digits::Exponent) => Step::Bad,
                // A number has no end of its own: the byte after it is looked at again, as what follows a value.
                None => match self.value_done() {
                    Step::End => Step::EndBefore,
                    _ => self.step(byte),
                },
            },
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => Step::More,
            Value => self.value(byte),
            FirstItem if byte == b']' => self.close(),
            FirstItem => self.value(byte),
            FirstName if byte == b'}' => self.close(),
            FirstName | Name if byte == b'"' => self.token(String { name: true }),
            FirstName | Name => Step::Bad,
            Colon if byte == b':' => self.go(Value),
            Colon => Step::Bad,
            Next => match (byte, self.objects & 1 == 1) {
                (b',', true) => self.go(Name),
                (b',', false) => self.go(Value),
                (b'}', true) | (b']', false) => self.close(),
                _ => Step::Bad,
            },
        }
    }

    fn value(&mut self, byte: u8) -> Step {
        match byte {
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'"' => self.token(Expect::String { name: false }),
            b't' => self.token(Expect::Word(b"rue")),
            b'f' => self.token(Expect::Word(b"alse")),
            b'n' => self.token(Expect::Word(b"ull")),
            b'-' => self.token(Expect::Number(Digits::Minus)),
            b'0' => self.token(Expect::Number(Digits::Zero)),
            b'1'..=b'9' => self.token(Expect::Number(Digits::Whole)),
            _ => Step::Bad,
        }
    }

    fn go(&mut self, expect: Expect) -> Step {
        self.expect = expect;
        Step::More
    }

    fn token(&mut self, expect: Expect) -> Step {
        self.tokens = self.tokens.saturating_add(1);
        if self.tokens > self.token_limit {
            Step::Bad
        } else {
            self.go(expect)
        }
    }

    fn open(&mut self, object: bool) -> Step {
        if self.depth == DEPTH_LIMIT {
            return Step::Bad;
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        self.token(if object { Expect::FirstName } else { Expect::FirstItem })
    }

    fn close(&mut self) -> Step {
        self.depth -= 1;
        self.objects >>= 1;
        match self.token(Expect::Next) {
            Step::More => self.value_done(),
            bad => bad,
        }
    }

    fn value_done(&mut self) -> Step {
        if self.depth == 0 {
            Step::End
        } else {
            self.go(Expect::Next)
        }
    }
}

/// The state after `byte` inside a number, or `None` where the byte does not belong to it.
fn digit(at: Digits, byte: u8) -> Option<Digits> {
    use Digits::*;
    match (at, byte) {
        (Minus, b'0') => Some(Zero),
        (Minus, b'1'..=b'9') | (Whole, b'0'..=b'9') => Some(Whole),
        (Zero | Whole, b'.') => Some(Point),
        (Point | Fraction, b'0'..=b'9') => Some(Fraction),
        (Zero | Whole | Fraction, b'e' | b'E') => Some(E),
        (E, b'+' | b'-') => Some(Sign),
        (E | Sign | Exponent, b'0'..=b'9') => Some(Exponent),
        _ => None,
    }
}

/// Cuts a byte stream into JSON values.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Where the value being read begins.
    start: usize,
    /// How far the scanner has been.
    scanned: usize,
    scanner: Scanner,
    limit: usize,
}

impl Framer {
    /// A framer that gives up on values longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Framer {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            scanner: Scanner::default(),
            limit,
        }
    }

    /// The same for a client, who trusts its server with any number of tokens.
    pub fn unbounded(limit: usize) -> Self {
        let scanner = Scanner {
            token_limit: u32::MAX,
            ..Scanner::default()
        };
        Framer {
            scanner,
            ..Self::new(limit)
        }
    }

    /// Takes bytes from the peer. Call [`Framer::next_value`] until it has no more before pushing again: that is what keeps the
    /// buffer bounded by the limit and one read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole value, or `None` until more bytes are here. Errors are final.
    pub fn next_value(&mut self) -> Result<Option<Value>, WireError> {
        let fresh = self.scanned == self.start;
        if fresh {
            let blank = self.buffer[self.start..]
                .iter()
                .take_while(|b| b" \t\r\n".contains(b))
                .count();
            self.start += blank;
            self.scanned = self.start;
        }
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            match self.scanner.step(byte) {
                Step::More => {}
                Step::End => return self.cut().map(Some),
                Step::EndBefore => {
                    self.scanned -= 1;
                    return self.cut().map(Some);
                }
                Step::Bad => return Err(WireError::Syntax),
            }
            if self.scanned - self.start > self.limit {
                return Err(WireError::TooLong);
            }
        }
        Ok(None)
    }

    /// Whether a value has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.scanned > self.start
    }

    fn cut(&mut self) -> Result<Value, WireError> {
        let value = serde_json::from_slice(&self.buffer[self.start..self.scanned]).map_err(|_| WireError::Syntax)?;
        self.start = self.scanned;
        self.scanner = Scanner {
            token_limit: self.scanner.token_limit,
            ..Scanner::default()
        };
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn all(framer: &mut Framer) -> Vec<Value> {
        std::iter::from_fn(|| framer.next_value().expect("valid JSON")).collect()
    }

    #[test]
    fn values_are_found_in_a_stream_without_delimiters() {
        let mut framer = Framer::new(REQUEST_LIMIT);
        framer.push(b"{\"a\": [1, {\"}\": \"]\\\"\"}]}[]\n\n  {}{\"b\":\n-1.5e+3}12 true\"x\"");
        let values = all(&mut framer);
        assert_eq!(
            values,
            vec![
                json!({"a": [1, {"}": "]\""}]}),
                json!([]),
                json!({}),
                json!({"b": -1500.0}),
                json!(12),
                json!(true),
                json!("x")
            ]
        );
        assert!(!framer.is_partial());
    }

    #[test]
    fn a_request_may_arrive_one_byte_at_a_time() {
        let text = serde_json::to_string_pretty(
            &json!({"jsonrpc": "2.0", "method": "bdev_get_bdevs", "id": 1, "params": {"name": "é\u{1f600}\n"}}),
        )
        .expect("plain data");
        let mut framer = Framer::new(REQUEST_LIMIT);
        for (at, byte) in text.bytes().enumerate() {
            framer.push(&[byte]);
            let value = framer.next_value().expect("valid JSON");
            assert_eq!(value.is_some(), at + 1 == text.len(), "byte {at} of {}", text.len());
        }
    }

    #[test]
    fn what_is_not_json_is_noticed_at_the_first_wrong_byte() {
        for bad in [
            "}",
            "{]",
            "{\"a\" 1",
            "[1,]",
            "{,",
            "nul0",
            "[01",
            "-x",
            "1.e",
            "\"\\q",
            "\"\u{1}",
            "{\"a\":1,}",
            "\\",
            "\u{feff}{}",
            "[\"\\u12g",
        ] {
            let mut framer = Framer::new(REQUEST_LIMIT);
            framer.push(bad.as_bytes());
            let outcome = std::iter::from_fn(|| framer.next_value().transpose()).find(Result::is_err);
            assert_eq!(outcome, Some(Err(WireError::Syntax)), "{bad:?}");
        }
    }

    #[test]
    fn limits_hold_for_length_depth_and_tokens() {
        let mut framer = Framer::new(100);
        framer.push(&[b'"'; 1]);
        framer.push(&[b'a'; 200]);
        assert_eq!(framer.next_value(), Err(WireError::TooLong));

        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        let mut framer = Framer::new(REQUEST_LIMIT);
        framer.push(deep(64).as_bytes());
        assert!(framer.next_value().expect("64 levels are allowed").is_some());
        framer.push(deep(65).as_bytes());
        assert_eq!(framer.next_value(), Err(WireError::Syntax));

        let many = |n: usize| format!("[{}]", vec!["1"; n].join(","));
        let mut framer = Framer::new(REQUEST_LIMIT);
        framer.push(many(8190).as_bytes());
        assert!(framer.next_value().expect("8192 tokens are allowed").is_some());
        framer.push(many(8191).as_bytes());
        assert_eq!(framer.next_value(), Err(WireError::Syntax));
    }

    #[test]
    fn blank_input_is_no_request_and_costs_no_memory() {
        let mut framer = Framer::new(64);
        for _ in 0..1000 {
            framer.push(b" \n\r\t  \n");
            assert_eq!(framer.next_value(), Ok(None));
        }
        assert!(framer.buffer.len() < 16);
    }
}
