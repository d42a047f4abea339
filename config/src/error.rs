//! What is wrong with a configuration file: where, at which key, and what was expected.
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1; 0 if it concerns the whole file.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// The key, as `disks[0].memory`; empty if it has none.
    pub key: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Why a configuration was refused. Everything that was found, in the order of the file.
#[derive(Debug)]
pub struct ConfigError {
    /// The file, if it came from one.
    pub file: Option<PathBuf>,
    /// What is wrong. Never empty.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(crate) fn whole(file: Option<&Path>, message: String) -> Self {
        let problem = Problem {
            line: 0,
            column: 0,
            key: String::new(),
            message,
        };
        Self {
            file: file.map(Path::to_owned),
            problems: vec![problem],
        }
    }
}

impl fmt::Display for ConfigError {
    /// A line for each problem, as compilers write them: `FILE:LINE:COLUMN: KEY: MESSAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let (end, colon) = (
                if i == 0 { "" } else { "\n" },
                if problem.line > 0 { ":" } else { ": " },
            );
            match &self.file {
                Some(file) => write!(f, "{end}{}{colon}{problem}", file.display())?,
                None => write!(f, "{end}{problem}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
