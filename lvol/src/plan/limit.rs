//! What the options of a verb may be for one object now: range, default, acceptable values.
//!
//! A verb guesses (it knows what is free, which members there are) and the guess is tried: a request with the value is planned and thrown away, as
//! `ashlar can` does with the verb. What is told is therefore what trying it would say; a guess that is too wide costs a few plans more, for then the end of
//! the range is searched for by halving.
use super::{
    Code, Disks, Request, Stamp, Verb,
    verb::{Opt, Type, plan},
};
use serde::Serialize;
use serde_json::{Map, Value};

/// Disks that are tried one by one, at most. With more of them nothing is told of which are acceptable.
const TRIED_MAX: usize = 256;

/// What a verb guesses of an option.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    option: &'static str,
    what: What,
    default: Option<Value>,
    not_with: &'static [&'static str],
    with: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    /// Numbers from the first to the second, in steps: bytes for a size, extents for these.
    Range(u64, u64, u64),
    /// Numbers in several runs, each from the first to the second, in steps from zero on.
    Runs(Vec<(u64, u64)>, u64),
    /// These, and perhaps others.
    Among(Vec<Value>, bool),
    /// What its type says.
    Anything,
}

impl Guess {
    fn new(option: &'static str, what: What) -> Self {
        Self {
            option,
            what,
            default: None,
            not_with: &[],
            with: Map::new(),
        }
    }

    /// Numbers from `floor` to `ceiling`, both included, in steps of `step` from the floor on: bytes for a size, extents for these.
    pub fn range(option: &'static str, floor: u64, ceiling: u64, step: u64) -> Self {
        Self::new(option, What::Range(floor, ceiling, step.max(1)))
    }

    /// Numbers in several runs, each from the first to the second, both included; of them those that are multiples of `step`.
    pub fn runs(option: &'static str, runs: impl IntoIterator<Item = (u64, u64)>, step: u64) -> Self {
        let step = step.max(1);
        let whole = |(floor, ceiling): (u64, u64)| {
            let floor = floor.checked_next_multiple_of(step)?;
            (floor <= ceiling).then_some((floor, ceiling))
        };
        Self::new(option, What::Runs(runs.into_iter().filter_map(whole).collect(), step))
    }

    /// One of these values and no other.
    pub fn among<T: Into<Value>>(option: &'static str, values: impl IntoIterator<Item = T>) -> Self {
        Self::new(option, What::Among(values.into_iter().map(Into::into).collect(), false))
    }

    /// These words, and whatever else has a name of its own: a GUID, a number.
    pub fn words<T: Into<Value>>(option: &'static str, values: impl IntoIterator<Item = T>) -> Self {
        Self::new(option, What::Among(values.into_iter().map(Into::into).collect(), true))
    }

    /// The option.
    pub fn option(&self) -> &'static str {
        self.option
    }

    /// What it needs besides.
    pub fn with_options(&self) -> Map<String, Value> {
        self.with.clone()
    }

    /// … and this counts without it.
    pub fn or(mut self, default: impl Into<Value>) -> Self {
        self.default = Some(default.into());
        self
    }

    /// … and it is given instead of these options.
    pub fn not_with(mut self, options: &'static [&'static str]) -> Self {
        self.not_with = options;
        self
    }

    /// … and it means something only with this option.
    pub fn with(mut self, option: &str, value: impl Into<Value>) -> Self {
        self.with.insert(option.to_owned(), value.into());
        self
    }
}

/// An option with what it may be for one object now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// What it is.
    #[serde(flatten)]
    pub option: Opt,
    /// What counts without it, if that can be said in a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The smallest number: bytes for a size, extents for these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u64>,
    /// The largest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// Every such step from the smallest on is acceptable; what lies between may be rounded, or refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Runs of numbers, where there are several: smallest and largest of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Vec<(u64, u64)>>,
    /// Acceptable values. None at all: it cannot be used now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Value>>,
    /// There are other acceptable values than those that are listed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub others: bool,
    /// Options that it is given instead of.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub not_with: &'static [&'static str],
}

/// What tries values: everything but the option itself.
struct Trial<'a> {
    disks: &'a dyn Disks,
    verb: &'static dyn Verb,
    object: &'a str,
    stamp: &'a Stamp,
}

impl Trial<'_> {
    /// What would come of this value.
    async fn code(&self, guess: &Guess, value: Value) -> Option<Code> {
        let request = request(self.verb, self.disks, self.object, guess.not_with, &guess.with);
        let request = request.with(guess.option, value);
        plan(self.disks, &request, self.stamp).await.err().map(|why| why.code)
    }

    /// True if a number is in the range: what is as it is already is so, too.
    async fn fits(&self, guess: &Guess, number: u64) -> bool {
        matches!(self.code(guess, number.into()).await, None | Some(Code::Nothing))
    }

    /// The ends of what is acceptable of `floor..=ceiling`, which is one run.
    async fn range(&self, guess: &Guess, (floor, ceiling, step): (u64, u64, u64)) -> Option<(u64, u64)> {
        let last = ceiling.checked_sub(floor)? / step;
        let at = |n: u64| floor + n * step;
        // Somewhere inside: the ends first, then ever smaller parts of it.
        let mut good = None;
        let parts = (1..64).map(|shift| last >> shift).take_while(|n| *n > 0);
        for n in [last, 0].into_iter().chain(parts) {
            if self.fits(guess, at(n)).await {
                good = Some(n);
                break;
            }
        }
        let good = good?;
        let (mut low, mut high) = (good, last);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match self.fits(guess, at(middle)).await {
                true => low = middle,
                false => high = middle - 1,
            }
        }
        let max = low;
        let (mut low, mut high) = (0, good);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.fits(guess, at(middle)).await {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        Some((at(high), at(max)))
    }
}

/// The request that an option is tried in.
pub fn request(
    verb: &dyn Verb,
    disks: &dyn Disks,
    object: &str,
    without: &[&str],
    with: &Map<String, Value>,
) -> Request {
    let mut request = Request::new(verb.name(), object);
    request.options = verb.example(disks, object);
    request.options.retain(|name, _| !without.contains(&name.as_str()));
    request.options.extend(with.clone());
    request
}

/// What each option of a verb may be for `object` now. `tried` is what came of the verb's example: where the object stands in the way there is nothing to try.
pub async fn limits(
    disks: &dyn Disks,
    verb: &'static dyn Verb,
    object: &str,
    stamp: &Stamp,
    tried: Option<Code>,
) -> Vec<Limit> {
    use Code::{BadName, BadOption, NoSpace, Nothing};
    let possible = matches!(tried, None | Some(Nothing | NoSpace | BadOption | BadName));
    let trial = Trial {
        disks,
        verb,
        object,
        stamp,
    };
    let guesses = verb.guesses(disks, object);
    let mut all = Vec::new();
    for option in verb.options() {
        let guess = guesses.iter().find(|guess| guess.option == option.name);
        let mut limit = Limit {
            option: *option,
            default: guess.and_then(|guess| guess.default.clone()),
            min: None,
            max: None,
            step: None,
            ranges: None,
            values: None,
            others: false,
            not_with: guess.map_or(&[], |guess| guess.not_with),
        };
        let usual = Guess::new(option.name, What::Anything);
        let guess = guess.unwrap_or(&usual);
        let what = match (&guess.what, option.kind) {
            (What::Anything, Type::Flag) => {
                limit.values = Some(vec![false.into(), true.into()]);
                all.push(limit);
                continue;
            }
            (What::Anything, Type::Choice(words)) => {
                What::Among(words.iter().map(|word| (*word).into()).collect(), false)
            }
            (What::Anything, Type::Disks) => {
                let names = disks.names();
                match names.len() {
                    0..=TRIED_MAX => What::Among(names.into_iter().map(Into::into).collect(), false),
                    _ => What::Anything,
                }
            }
            (what, _) => what.clone(),
        };
        match what {
            What::Range(floor, ceiling, step) if possible => match trial.range(guess, (floor, ceiling, step)).await {
                Some((min, max)) => {
                    (limit.min, limit.max) = (Some(min), Some(max));
                    limit.step = (step > 1).then_some(step);
                }
                None => limit.values = Some(Vec::new()),
            },
            What::Runs(runs, step) if possible => {
                let mut good: Vec<(u64, u64)> = Vec::new();
                for (floor, ceiling) in runs {
                    let Some((min, max)) = trial.range(guess, (floor, ceiling, step)).await else {
                        continue;
                    };
                    match good.last_mut() {
                        Some((_, last)) if *last + step == min => *last = max,
                        _ => good.push((min, max)),
                    }
                }
                match good.as_slice() {
                    [] => limit.values = Some(Vec::new()),
                    [(min, max)] => (limit.min, limit.max) = (Some(*min), Some(*max)),
                    _ => limit.ranges = Some(good),
                }
                limit.step = (step > 1 && limit.values.is_none()).then_some(step);
            }
            What::Among(values, others) if possible => {
                let mut good = Vec::new();
                for value in values {
                    // An option that is a list has them one by one.
                    let given = match option.kind {
                        Type::Disks | Type::List => Value::from(vec![value.clone()]),
                        _ => value.clone(),
                    };
                    let code = trial.code(guess, given).await;
                    if code.is_none() || code == Some(Nothing) && option.kind != Type::Disks {
                        good.push(value);
                    }
                }
                limit.values = Some(good);
                limit.others = others;
            }
            _ => {}
        }
        all.push(limit);
    }
    all
}
