//! The text of LVM2's metadata and configuration as a tree that keeps everything: order, fields and sections nobody here knows, comments, the
//! way a number was written. A tree that was not changed gives back the bytes it was read from.
//!
//! ```text
//!   file     = { item }                       item    = name "=" value  |  name "{" { item } "}"
//!   value    = scalar | "[" [ scalar { "," scalar } ] "]"
//!   scalar   = integer | decimal | "text with \" and \\" | 'text' | @word        # and comments to the end of a line
//! ```
//!
//! The grammar is that of LVM2's `device_mapper/libdm-config.c`; depth and number of items are bounded here.
//!
//! A change of a group of 10,000 volumes leaves all but one as they were. So sections are shared: a clone costs nothing until it is changed, and a
//! text that is read [with another at hand](Section::parse_like) takes from it every volume of which the bytes are the same.
use std::{borrow::Cow, ops::Deref, sync::Arc};

/// Deepest nesting. LVM2's own goes to four: group, volumes, volume, segment.
const DEPTH_MAX: usize = 16;
/// Most items in a tree. A group of 10,000 volumes has about 200,000.
const ITEMS_MAX: usize = 1 << 20;
/// Sections from this depth on have a copy of their bytes: volumes. Whoever keeps one must not keep the whole text for it.
const OWN: usize = 3;
/// How far a section is looked for behind where it is expected in the other text: so many may have gone in between.
const AHEAD: usize = 16;

/// Why a text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Error {
    /// Line of the text, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// What a value says.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// An integer.
    Integer(i64),
    /// A decimal fraction.
    Decimal(f64),
    /// Text, without its quotes. What is not UTF-8 in it is replaced here and kept in the bytes.
    Text(String),
    /// Several of the others.
    List(Vec<Data>),
}

/// Bytes of the text that was read, which a tree or a volume of it shares, or bytes of their own. A tree of 10,000 volumes has half a million.
#[derive(Clone)]
struct Run {
    text: Arc<[u8]>,
    start: u32,
    end: u32,
}

impl Deref for Run {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.text[self.start as usize..self.end as usize]
    }
}

impl From<&[u8]> for Run {
    fn from(bytes: &[u8]) -> Self {
        Self {
            // What is set at once is far shorter than 4 GiB.
            end: bytes.len() as u32,
            start: 0,
            text: bytes.into(),
        }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self::from(&[][..])
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self))
    }
}

/// A value: what it says, and how it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    data: Data,
    raw: Run,
}

impl Value {
    /// A value as LVM2 writes it.
    pub fn new(data: Data) -> Self {
        let mut raw = Vec::new();
        write(&data, &mut raw);
        Self {
            data,
            raw: raw.as_slice().into(),
        }
    }

    /// What it says.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The integer, if it is one.
    pub fn integer(&self) -> Option<i64> {
        match self.data {
            Data::Integer(n) => Some(n),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The list; a single value is a list of one, as LVM2 takes it.
    pub fn list(&self) -> &[Data] {
        match &self.data {
            Data::List(list) => list,
            one => std::slice::from_ref(one),
        }
    }
}

fn write(data: &Data, raw: &mut Vec<u8>) {
    match data {
        Data::Integer(n) => raw.extend(n.to_string().bytes()),
        // At least one digit behind the point: without it would be an integer.
        Data::Decimal(n) => raw.extend(format!("{n:?}").bytes()),
        Data::Text(text) => {
            raw.push(b'"');
            for byte in text.bytes() {
                if matches!(byte, b'"' | b'\\') {
                    raw.push(b'\\');
                }
                raw.push(byte);
            }
            raw.push(b'"');
        }
        Data::List(list) => {
            raw.push(b'[');
            for (at, one) in list.iter().enumerate() {
                if at > 0 {
                    raw.extend(b", ");
                }
                write(one, raw);
            }
            raw.push(b']');
        }
    }
}

/// What an item is.
#[derive(Clone, Debug, PartialEq)]
enum What {
    /// The bytes between name and value, and the value.
    Field { between: Run, value: Value },
    /// The bytes between name and `{`, and what is inside.
    Section { between: Run, inside: Section },
}

/// A field or a section with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// White space and comments in front.
    before: Run,
    name: Run,
    what: What,
}

impl Item {
    /// Its name.
    pub fn name(&self) -> Cow<'_, str> {
        let quoted = |q: u8| self.name.len() >= 2 && self.name.starts_with(&[q]) && self.name.ends_with(&[q]);
        match self.name.first() {
            Some(b'"') if quoted(b'"') => Cow::Owned(unescaped(&self.name[1..self.name.len() - 1])),
            _ => String::from_utf8_lossy(&self.name),
        }
    }

    /// Whether this is its name, without a copy of it.
    fn is_called(&self, name: &str) -> bool {
        match self.name.first() {
            Some(b'"') => self.name() == name,
            _ => *self.name == *name.as_bytes(),
        }
    }

    /// The value, if it is a field.
    pub fn value(&self) -> Option<&Value> {
        match &self.what {
            What::Field { value, .. } => Some(value),
            What::Section { .. } => None,
        }
    }

    /// What is inside, if it is a section.
    pub fn section(&self) -> Option<&Section> {
        match &self.what {
            What::Section { inside, .. } => Some(inside),
            What::Field { .. } => None,
        }
    }

    /// What is inside, to change it.
    pub fn section_mut(&mut self) -> Option<&mut Section> {
        match &mut self.what {
            What::Section { inside, .. } => Some(inside),
            What::Field { .. } => None,
        }
    }
}

/// Items in order, and the white space and comments behind the last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section(Arc<Body>);

#[derive(Clone, Debug, Default)]
struct Body {
    items: Vec<Item>,
    after: Run,
    /// What it was read from, and how many items that has with all inside. Nothing once it was changed.
    source: Option<(Run, usize)>,
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        // Where it was read from does not matter.
        std::ptr::eq(self, other) || self.items == other.items && self.after == other.after
    }
}

impl Section {
    /// Reads a whole text. A zero at its end, as on disk, belongs to it.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        Self::parse_like(text, &Self::default())
    }

    /// Reads a whole text of which parts may be those of another one; they are taken from there. The result is the same as without.
    pub fn parse_like(text: &[u8], other: &Self) -> Result<Self, Error> {
        if u32::try_from(text.len()).is_err() {
            return Err(Error {
                line: 1,
                what: "a text of more than 4 GiB",
            });
        }
        let mut parser = Parser {
            text,
            shared: text.into(),
            base: 0,
            at: 0,
            items: 0,
        };
        parser.section(0, Some(other))
    }

    /// The very bytes it was read from, if it was not changed since.
    pub fn source(&self) -> Option<&[u8]> {
        self.0.source.as_ref().map(|(source, _)| &**source)
    }

    /// True if it is the other one, not only like it.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn body(&mut self) -> &mut Body {
        let body = Arc::make_mut(&mut self.0);
        body.source = None;
        body
    }

    /// The text, byte for byte as it was read where nothing was changed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        if let Some(source) = self.source() {
            return bytes.extend_from_slice(source);
        }
        // As deep as the parser went.
        for item in &self.0.items {
            bytes.extend_from_slice(&item.before);
            bytes.extend_from_slice(&item.name);
            match &item.what {
                What::Field { between, value } => {
                    bytes.extend_from_slice(between);
                    bytes.extend_from_slice(&value.raw);
                }
                What::Section { between, inside } => {
                    bytes.extend_from_slice(between);
                    bytes.push(b'{');
                    inside.write(bytes);
                    bytes.push(b'}');
                }
            }
        }
        bytes.extend_from_slice(&self.0.after);
    }

    /// All items, in order.
    pub fn items(&self) -> &[Item] {
        &self.0.items
    }

    /// The first item of this name.
    pub fn get(&self, name: &str) -> Option<&Item> {
        self.0.items.iter().find(|item| item.is_called(name))
    }

    /// The first item of this name, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Item> {
        self.body().items.iter_mut().find(|item| item.is_called(name))
    }

    /// The value of the first item of this name.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.get(name)?.value()
    }

    /// The section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.get(name)?.section()
    }

    /// Gives a field another value, or adds it behind the last item, in a line of its own.
    pub fn set(&mut self, name: &str, data: Data) {
        let value = Value::new(data);
        match self.get_mut(name).map(|item| &mut item.what) {
            Some(What::Field { value: old, .. }) => *old = value,
            Some(section) => {
                *section = What::Field {
                    between: b"="[..].into(),
                    value,
                }
            }
            None => self.body().items.push(Item {
                before: b"\n"[..].into(),
                name: name.as_bytes().into(),
                what: What::Field {
                    between: b" = "[..].into(),
                    value,
                },
            }),
        }
    }

    /// Adds a section behind the last item.
    pub fn add(&mut self, name: &str, mut inside: Section) {
        if inside.0.after.is_empty() {
            inside.body().after = b"\n"[..].into();
        }
        self.body().items.push(Item {
            before: b"\n\n"[..].into(),
            name: name.as_bytes().into(),
            what: What::Section {
                between: b" "[..].into(),
                inside,
            },
        });
    }

    /// Gives the first item of this name another one. False if there is none.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let item = self.get_mut(from);
        let found = item.is_some();
        if let Some(item) = item {
            item.name = to.as_bytes().into();
        }
        found
    }

    /// Takes the first item of this name away.
    pub fn remove(&mut self, name: &str) -> Option<Item> {
        let at = self.0.items.iter().position(|item| item.is_called(name))?;
        Some(self.body().items.remove(at))
    }
}

/// Only `\"` and `\\` mean something else than they say.
fn unescaped(raw: &[u8]) -> String {
    let mut text = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        let escapes = byte == b'\\' && matches!(raw.get(at + 1), Some(b'"' | b'\\'));
        let from = at + usize::from(escapes);
        text.push(raw[from]);
        at = from + 1;
    }
    String::from_utf8(text).unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned())
}

struct Parser<'a> {
    text: &'a [u8],
    /// What runs are cut from: the text from `base` on, or a section of it.
    shared: Arc<[u8]>,
    base: usize,
    at: usize,
    items: usize,
}

impl<'a> Parser<'a> {
    fn wrong<T>(&self, what: &'static str) -> Result<T, Error> {
        let line = 1 + self.text[..self.at.min(self.text.len())]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        Err(Error { line, what })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// White space, comments, and the zero at the end of a text on disk.
    fn space(&mut self) -> Run {
        let from = self.at;
        self.skip();
        self.run(from)
    }

    /// What was read from there on.
    fn run(&self, from: usize) -> Run {
        match from.checked_sub(self.base) {
            Some(start) if self.at - self.base <= self.shared.len() => Run {
                text: self.shared.clone(),
                // Checked: the text is shorter than 4 GiB.
                start: start as u32,
                end: (self.at - self.base) as u32,
            },
            // It goes on behind what was taken for its section's end.
            _ => self.text[from..self.at].into(),
        }
    }

    /// Where the section ends that begins here, as it seems: at the `}` that closes it.
    fn end(&self) -> usize {
        let (mut at, mut depth) = (self.at, 0usize);
        let until = |from: usize, stop: u8| {
            let rest = self.text.get(from..).unwrap_or_default();
            from + rest.iter().position(|b| *b == stop).unwrap_or(rest.len())
        };
        while let Some(byte) = self.text.get(at) {
            match byte {
                b'}' if depth == 0 => return at,
                b'}' => depth -= 1,
                b'{' => depth += 1,
                b'#' => at = until(at, b'\n'),
                b'\'' => at = until(at + 1, b'\''),
                b'"' => loop {
                    at += 1;
                    match self.text.get(at) {
                        Some(b'\\') => at += 1,
                        None | Some(b'"') => break,
                        Some(_) => {}
                    }
                },
                _ => {}
            }
            at += 1;
        }
        self.text.len()
    }

    /// The section that begins here, if it is byte for byte this one.
    fn same(&mut self, other: &Section) -> Option<Section> {
        let (source, items) = other.0.source.as_ref()?;
        let rest = self.text.get(self.at..)?.strip_prefix(&**source)?;
        if rest.first() != Some(&b'}') || self.items + items > ITEMS_MAX {
            return None;
        }
        self.at += source.len();
        self.items += items;
        Some(other.clone())
    }

    fn skip(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'#' => {
                    while self.peek().is_some_and(|b| b != b'\n') {
                        self.at += 1;
                    }
                }
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0 => self.at += 1,
                _ => break,
            }
        }
    }

    /// What is inside of a section of this depth, up to its `}`. `other` is what may be the same.
    fn section(&mut self, depth: usize, other: Option<&Section>) -> Result<Section, Error> {
        if depth > DEPTH_MAX {
            return self.wrong("sections are nested too deep");
        }
        if depth != OWN {
            return self.inside(depth, other);
        }
        if let Some(same) = other.and_then(|other| self.same(other)) {
            return Ok(same);
        }
        let own = self.text[self.at..self.end()].into();
        let whole = (std::mem::replace(&mut self.shared, own), self.base);
        self.base = self.at;
        let inside = self.inside(depth, None);
        (self.shared, self.base) = whole;
        inside
    }

    fn inside(&mut self, depth: usize, other: Option<&Section>) -> Result<Section, Error> {
        let (from, counted) = (self.at, self.items);
        let others = other.map(Section::items).unwrap_or_default();
        // Where in the other one we are.
        let mut there = 0;
        let mut items = Vec::with_capacity(others.len());
        loop {
            let before = self.space();
            match self.peek() {
                None if depth > 0 => return self.wrong("the text ends inside of a section"),
                Some(b'}') if depth == 0 => return self.wrong("a section ends that did not begin"),
                None | Some(b'}') => {
                    let source = self.run(from);
                    return Ok(Section(Arc::new(Body {
                        items,
                        after: before,
                        source: Some((source, self.items - counted)),
                    })));
                }
                Some(_) => {}
            }
            self.items += 1;
            if self.items > ITEMS_MAX {
                return self.wrong("more items than a group can have");
            }
            let name = self.name()?;
            let from = self.at;
            self.skip();
            let what = match self.peek() {
                Some(b'{') => {
                    let between = self.run(from);
                    self.at += 1;
                    let ahead = others.get(there..).unwrap_or_default();
                    let found = ahead.iter().take(AHEAD).position(|item| item.name == name);
                    let other = found.and_then(|skipped| {
                        there += skipped + 1;
                        ahead.get(skipped)?.section()
                    });
                    let inside = self.section(depth + 1, other)?;
                    // `section` ends at a `}` when it is inside.
                    self.at += 1;
                    What::Section { between, inside }
                }
                Some(b'=') => {
                    self.at += 1;
                    self.skip();
                    let between = self.run(from);
                    let value = self.value()?;
                    What::Field { between, value }
                }
                _ => return self.wrong("a name is followed by neither = nor {"),
            };
            items.push(Item { before, name, what });
        }
    }

    fn name(&mut self) -> Result<Run, Error> {
        let from = self.at;
        if self.peek() == Some(b'"') {
            self.quoted(b'"')?;
            return Ok(self.run(from));
        }
        let ends = |b: u8| {
            b.is_ascii_whitespace()
                || matches!(
                    b,
                    0 | 0x0b | b'#' | b'=' | b'{' | b'}' | b'[' | b']' | b',' | b'"' | b'\''
                )
        };
        while self.peek().is_some_and(|b| !ends(b)) {
            self.at += 1;
        }
        match self.at > from {
            true => Ok(self.run(from)),
            false => self.wrong("a name was expected"),
        }
    }

    fn value(&mut self) -> Result<Value, Error> {
        let from = self.at;
        let data = if self.peek() == Some(b'[') {
            self.at += 1;
            let mut list = Vec::new();
            loop {
                self.skip();
                match self.peek() {
                    Some(b']') => break self.at += 1,
                    Some(b',') if !list.is_empty() => {
                        self.at += 1;
                        continue;
                    }
                    _ => {}
                }
                self.items += 1;
                if self.items > ITEMS_MAX {
                    return self.wrong("more items than a group can have");
                }
                list.push(self.scalar()?);
            }
            Data::List(list)
        } else {
            self.scalar()?
        };
        Ok(Value {
            data,
            raw: self.run(from),
        })
    }

    fn scalar(&mut self) -> Result<Data, Error> {
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => {
                let inside = self.quoted(quote)?;
                Ok(Data::Text(match quote {
                    b'"' => unescaped(inside),
                    _ => String::from_utf8_lossy(inside).into_owned(),
                }))
            }
            Some(b'@') => {
                let from = self.at;
                while self.peek().is_some_and(|b| {
                    !b.is_ascii_whitespace() && !matches!(b, 0 | b'#' | b',' | b']' | b'}' | b'{' | b'=')
                }) {
                    self.at += 1;
                }
                Ok(Data::Text(
                    String::from_utf8_lossy(&self.text[from..self.at]).into_owned(),
                ))
            }
            Some(b'0'..=b'9' | b'-' | b'+' | b'.') => {
                let from = self.at;
                self.at += 1;
                while self.peek().is_some_and(|b| b.is_ascii_digit() || b == b'.') {
                    self.at += 1;
                }
                let digits = std::str::from_utf8(&self.text[from..self.at]).unwrap_or_default();
                let read = match digits.contains('.') {
                    true => digits.parse().ok().map(Data::Decimal),
                    false => digits.parse().ok().map(Data::Integer),
                };
                match read {
                    Some(data) => Ok(data),
                    None => self.wrong("not a number, or one of more than 63 bits"),
                }
            }
            _ => self.wrong("a value was expected"),
        }
    }

    /// What is between quotes. Leaves the closing one behind.
    fn quoted(&mut self, quote: u8) -> Result<&'a [u8], Error> {
        self.at += 1;
        let from = self.at;
        loop {
            match self.peek() {
                None => return self.wrong("a text in quotes does not end"),
                Some(b'\\') if quote == b'"' => self.at += 2,
                Some(b) if b == quote => {
                    let inside = &self.text[from..self.at];
                    self.at += 1;
                    return Ok(inside);
                }
                Some(_) => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = "vg {\nid = \"a-b\"\nseqno = 3\nstatus = [\"READ\", 'WRITE' , ]\nflags = []\nratio=0.50\n\n\
        odd {\n\t# a comment with = { }\n\tdepth { x = -1 }\n}\nlast=\"a \\\"q\\\" \\\\ \\n\"}\n# Generated by hand\n\ncontents = \"t\"\t# here\n\0";

    #[test]
    fn a_text_is_read_in_order_and_written_as_it_was() {
        let tree = Section::parse(SAMPLE.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(tree.to_bytes()).unwrap(), SAMPLE);
        let vg = tree.section("vg").unwrap();
        let names: Vec<_> = vg.items().iter().map(Item::name).collect();
        assert_eq!(names, ["id", "seqno", "status", "flags", "ratio", "odd", "last"]);
        assert_eq!(vg.value("seqno").and_then(Value::integer), Some(3));
        let texts = |name: &str| vg.value(name).unwrap().list().to_vec();
        assert_eq!(texts("status"), [Data::Text("READ".into()), Data::Text("WRITE".into())]);
        assert_eq!(texts("flags"), []);
        assert_eq!(vg.value("ratio").unwrap().data(), &Data::Decimal(0.5));
        assert_eq!(vg.value("last").unwrap().text(), Some("a \"q\" \\ \\n"));
        let depth = vg.section("odd").unwrap().section("depth").unwrap();
        assert_eq!(depth.value("x").and_then(Value::integer), Some(-1));
    }

    #[test]
    fn changes_touch_nothing_else() {
        let mut tree = Section::parse(SAMPLE.as_bytes()).unwrap();
        let vg = tree.get_mut("vg").unwrap().section_mut().unwrap();
        vg.set("seqno", Data::Integer(4));
        vg.set("new", Data::List(vec![Data::Text("a\"\\".into()), Data::Integer(-7)]));
        assert!(vg.remove("odd").is_some() && vg.remove("odd").is_none());
        assert!(tree.rename("vg", "group"));
        let text = String::from_utf8(tree.to_bytes()).unwrap();
        assert_eq!(
            text,
            SAMPLE
                .replace("vg {", "group {")
                .replace("seqno = 3", "seqno = 4")
                .replace("\n\nodd {\n\t# a comment with = { }\n\tdepth { x = -1 }\n}", "")
                .replace("\\n\"}", "\\n\"\nnew = [\"a\\\"\\\\\", -7]}")
        );
        let again = Section::parse(text.as_bytes()).unwrap();
        let new = again.section("group").unwrap().value("new").unwrap().list().to_vec();
        assert_eq!(new, [Data::Text("a\"\\".into()), Data::Integer(-7)]);
    }

    #[test]
    fn what_is_the_same_is_shared_and_what_is_not_is_read() {
        let volume = |name: &str, size: u32| {
            format!("{name} {{\nsize = {size}\ntags = [\"}}\", '{{'] # }}\nin {{ x = 1 }}\n}}\n")
        };
        let text = |volumes: &[String]| format!("vg {{\nlvs {{\n{}}}\n}}\nversion = 1\n", volumes.concat());
        let inside = |tree: &Section, name: &str| {
            let lvs = tree.section("vg").and_then(|vg| vg.section("lvs"));
            lvs.and_then(|lvs| lvs.section(name)).cloned().unwrap()
        };
        let all: Vec<String> = (0..9).map(|n| volume(&format!("v{n}"), n)).collect();
        let old = Section::parse(text(&all).as_bytes()).unwrap();
        let mut changed = all.clone();
        changed[3] = volume("v3", 33);
        changed.remove(5);
        changed.push(volume("v9", 9));
        let changed = text(&changed);
        let new = Section::parse_like(changed.as_bytes(), &old).unwrap();
        assert_eq!(new, Section::parse(changed.as_bytes()).unwrap());
        assert_eq!(new.to_bytes(), changed.as_bytes());
        for (name, same) in [("v2", true), ("v3", false), ("v4", true), ("v8", true)] {
            assert_eq!(inside(&new, name).is(&inside(&old, name)), same, "{name}");
        }
        assert_eq!(inside(&new, "v3").value("size").and_then(Value::integer), Some(33));
        // A change of one does not show in the other.
        let mut edited = new.clone();
        let lvs = edited.get_mut("vg").and_then(|vg| vg.section_mut()).unwrap();
        let lvs = lvs.get_mut("lvs").and_then(|lvs| lvs.section_mut()).unwrap();
        let v2 = lvs.get_mut("v2").and_then(|v2| v2.section_mut()).unwrap();
        v2.set("size", Data::Integer(22));
        assert_eq!(new.to_bytes(), changed.as_bytes());
        assert_eq!(
            String::from_utf8(edited.to_bytes()).unwrap(),
            changed.replace("size = 2\n", "size = 22\n")
        );
        assert!(edited.source().is_none() && inside(&edited, "v4").is(&inside(&old, "v4")));
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_kept() {
        let text = b"a = \"gr\xf6\xdfe\"";
        let tree = Section::parse(text).unwrap();
        assert_eq!(tree.to_bytes(), text);
        assert!(tree.value("a").unwrap().text().unwrap().starts_with("gr\u{fffd}"));
    }

    #[test]
    fn each_damage_is_told_with_its_line() {
        let wrong = |text: &str| Section::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(wrong("a = 1\nb {\n"), "line 3: the text ends inside of a section");
        assert_eq!(wrong("a = 1 }"), "line 1: a section ends that did not begin");
        assert_eq!(wrong("a\nb = 1"), "line 2: a name is followed by neither = nor {");
        assert_eq!(wrong("a = "), "line 1: a value was expected");
        assert_eq!(wrong("a = [1, 2"), "line 1: a value was expected");
        assert_eq!(wrong("a = \"b\\\""), "line 1: a text in quotes does not end");
        assert_eq!(
            wrong("a = 99999999999999999999"),
            "line 1: not a number, or one of more than 63 bits"
        );
        assert_eq!(wrong("= 1"), "line 1: a name was expected");
        assert_eq!(wrong(&"a {".repeat(40)), "line 1: sections are nested too deep");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_given_back(
            cuts in prop::collection::vec((0usize..SAMPLE.len(), any::<u8>()), 0..6),
            keep in 0usize..=SAMPLE.len(),
        ) {
            let mut text = SAMPLE.as_bytes()[..keep].to_vec();
            for (at, byte) in cuts {
                if let Some(place) = text.get_mut(at) { *place = byte }
            }
            // One that is read with another at hand is the same, and refused alike.
            let alone = Section::parse(&text);
            prop_assert_eq!(&Section::parse_like(&text, &Section::parse(SAMPLE.as_bytes()).unwrap()), &alone);
            if let Ok(mut tree) = alone {
                prop_assert_eq!(tree.to_bytes(), &*text);
                tree.set("a", Data::Integer(1));
                prop_assert_eq!(tree.items().iter().filter(|item| item.section().is_some()).count(),
                    Section::parse(&tree.to_bytes()).unwrap().items().iter().filter(|item| item.section().is_some()).count());
            }
        }

        #[test]
        fn any_text_survives_the_way_out_and_back(text in any::<String>(), n in any::<i64>()) {
            let mut tree = Section::default();
            tree.set("a", Data::List(vec![Data::Text(text.clone()), Data::Integer(n)]));
            let again = Section::parse(&tree.to_bytes()).unwrap();
            prop_assert_eq!(again.value("a").unwrap().list(), [Data::Text(text), Data::Integer(n)]);
        }
    }
}
