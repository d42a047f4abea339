//! What is kept of a sanitize: enough to go on with it, or to know that it has failed.
//!
//! ```text
//!   {state directory}/sanitize/{uuid}.json      {"version":1,"failed":false,"unrestricted_exit":false,"job":{"overwrite":{…}}}
//! ```
//!
//! The file is there before the first block changes and before the host has a status, and is gone before the unit is ready again. A
//! file that cannot be read was damaged from outside: what it asked for is unknown, so the sanitize counts as failed, and the
//! unit stays closed until it is sanitized again or the file is removed.
use super::Job;
use serde::{Deserialize, Serialize};

/// A sanitize that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    version: u32,
    /// It has failed, and is not to be gone on with.
    pub failed: bool,
    /// AUSE: after a failure EXIT FAILURE MODE will do.
    pub unrestricted_exit: bool,
    /// What was to be done.
    pub job: Job,
}

impl Kept {
    /// One that is under way.
    pub fn running(job: Job, unrestricted_exit: bool) -> Self {
        Self {
            version: 1,
            failed: false,
            unrestricted_exit,
            job,
        }
    }

    /// The file's body.
    pub fn encode(&self) -> Vec<u8> {
        // Numbers and text cannot fail to become JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) made, or says what is wrong with it.
    pub fn decode(body: &[u8]) -> Result<Self, String> {
        let kept: Self = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if kept.version != 1 {
            return Err(format!("its version is {} and not 1", kept.version));
        }
        match &kept.job {
            Job::Overwrite {
                passes, pattern, done, ..
            } => {
                let fits = (1..=31).contains(passes) && done <= passes && (1..=1 << 16).contains(&pattern.len());
                fits.then_some(kept)
                    .ok_or("it asks for an overwrite that cannot be".into())
            }
            Job::BlockErase | Job::CryptographicErase => Ok(kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sanitize_under_way_has_its_golden_bytes_and_reads_back() {
        let job = Job::Overwrite {
            passes: 3,
            invert: true,
            pattern: vec![0xa5, 0],
            done: 1,
        };
        let kept = Kept::running(job, true);
        let bytes = kept.encode();
        assert_eq!(
            std::str::from_utf8(&bytes).ok(),
            Some(
                "{\"version\":1,\"failed\":false,\"unrestricted_exit\":true,\"job\":{\"overwrite\":{\"passes\":3,\
                 \"invert\":true,\"pattern\":[165,0],\"done\":1}}}"
            )
        );
        assert_eq!(Kept::decode(&bytes), Ok(kept));
        let erase = Kept {
            failed: true,
            ..Kept::running(Job::BlockErase, false)
        };
        assert_eq!(Kept::decode(&erase.encode()), Ok(erase));
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let overwrite = |passes, done, pattern: &[u8]| {
            let job = Job::Overwrite {
                passes,
                invert: false,
                pattern: pattern.to_vec(),
                done,
            };
            Kept::decode(&Kept::running(job, false).encode()).is_ok()
        };
        assert!(overwrite(1, 1, &[0]) && overwrite(31, 0, &[0; 4096]));
        assert!(!overwrite(0, 0, &[0]) && !overwrite(32, 0, &[0]) && !overwrite(2, 3, &[0]) && !overwrite(1, 0, &[]));
        let old = Kept {
            version: 2,
            ..Kept::running(Job::BlockErase, false)
        };
        assert!(Kept::decode(&old.encode()).is_err());
    }
}
