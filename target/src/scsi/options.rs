//! What an administrator says about a logical unit beyond its volume: plain data, and what of it makes sense.
//! `docs/configuration.md` shows it from the user's side.
use bdev::Geometry;
use serde::{Deserialize, Serialize};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Options of one logical unit. What is left out follows from the volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LunOptions {
    /// Hosts cannot write, whatever the volume would allow.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Hosts see a removable medium (RMB = 1), which they can eject, load and lock.
    #[serde(skip_serializing_if = "is_default")]
    pub removable: bool,
    /// Hosts can unmap (LBPME = 1). Default: if the volume can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thin: Option<bool>,
    /// Bytes of a physical block, as READ CAPACITY (16) tells. Default: the volume's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub physical_block_size: Option<u32>,
    /// The first logical block that starts a physical one. Default: 0.
    #[serde(skip_serializing_if = "is_default")]
    pub lowest_aligned_lba: u16,
    /// Unit serial number. Default: the volume's UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// T10 vendor identification, up to 8 characters. Default: ASHLAR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Product identification, up to 16 characters. Default: Volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Product revision level, up to 4 characters. Default: Ashlar's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The value of WCE that units start with, and have again after a reset: false makes each write reach stable storage
    /// before its status goes out. Default: true if the volume has a volatile cache; a volume without one has nothing to switch on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_cache: Option<bool>,
}

/// An option that cannot be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadOption {
    /// Its name.
    pub what: &'static str,
    /// What is wrong and what was expected.
    pub why: String,
}

impl LunOptions {
    /// What can be said without knowing the volume.
    pub fn check(&self) -> Result<(), BadOption> {
        let texts = [
            // A designator in page 83h holds the vendor and this.
            ("serial", &self.serial, 64),
            ("vendor", &self.vendor, 8),
            ("product", &self.product, 16),
            ("revision", &self.revision, 4),
        ];
        for (what, text, most) in texts {
            let Some(text) = text else { continue };
            // A serial number is compared as a whole: spaces in it are padding to some hosts.
            let fits = |b: u8| b.is_ascii_graphic() || b == b' ' && what != "serial";
            if !(1..=most).contains(&text.len()) || !text.bytes().all(fits) || text.trim() != text {
                let why = format!("{text:?} is not 1 to {most} printable ASCII characters without spaces around them");
                return Err(BadOption { what, why });
            }
        }
        if let Some(size) = self.physical_block_size
            && !(size.is_power_of_two() && (512..=16 << 20).contains(&size))
        {
            let why = format!("{size} is not a power of two from 512 to 16777216");
            return Err(BadOption {
                what: "physical_block_size",
                why,
            });
        }
        Ok(())
    }

    /// The rest of it.
    pub fn check_for(&self, volume: &Geometry) -> Result<(), BadOption> {
        self.check()?;
        if self.thin == Some(true) && !volume.unmap {
            let why = "the volume cannot unmap; leave this out or say false".into();
            return Err(BadOption { what: "thin", why });
        }
        if self.write_cache == Some(true) && !volume.volatile_cache {
            let why = "the volume has no volatile cache to switch on; leave this out or say false".into();
            return Err(BadOption {
                what: "write_cache",
                why,
            });
        }
        let (logical, physical) = (volume.block_size, self.physical(volume));
        // Four bits hold the exponent (SBC-3 5.16.2).
        if physical < logical || physical / logical > 1 << 15 {
            let why = format!("{physical} is not within 1 to 32768 logical blocks of {logical} bytes");
            return Err(BadOption {
                what: "physical_block_size",
                why,
            });
        }
        let last = physical / logical - 1;
        if u32::from(self.lowest_aligned_lba) > last.min(0x3fff) {
            let why = format!(
                "{} is not within 0 to {last}: a physical block has {} logical ones",
                self.lowest_aligned_lba,
                last + 1
            );
            return Err(BadOption {
                what: "lowest_aligned_lba",
                why,
            });
        }
        Ok(())
    }

    /// Bytes of a physical block; not less than a logical one.
    pub fn physical(&self, volume: &Geometry) -> u32 {
        self.physical_block_size
            .unwrap_or(volume.physical_block_size.max(volume.block_size))
    }

    /// Hosts can unmap.
    pub fn thin(&self, volume: &Geometry) -> bool {
        volume.unmap && self.thin != Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> Geometry {
        Geometry {
            unmap: true,
            volatile_cache: true,
            ..Geometry::plain(512, 1 << 20)
        }
    }

    #[test]
    fn nothing_said_is_nothing_printed_and_follows_the_volume() {
        let plain = LunOptions::default();
        assert_eq!(plain.check_for(&volume()), Ok(()));
        assert!(plain.thin(&volume()) && !plain.thin(&Geometry::plain(512, 8)));
        assert_eq!(plain.physical(&volume()), 512);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let bad = |options: LunOptions| options.check_for(&volume()).unwrap_err().what;
        let text = |n: usize| Some("x".repeat(n));
        assert_eq!(
            bad(LunOptions {
                vendor: text(9),
                ..Default::default()
            }),
            "vendor"
        );
        assert_eq!(
            bad(LunOptions {
                product: text(17),
                ..Default::default()
            }),
            "product"
        );
        assert_eq!(
            bad(LunOptions {
                revision: text(5),
                ..Default::default()
            }),
            "revision"
        );
        assert_eq!(
            bad(LunOptions {
                serial: text(0),
                ..Default::default()
            }),
            "serial"
        );
        assert_eq!(
            bad(LunOptions {
                serial: Some("naïve".into()),
                ..Default::default()
            }),
            "serial"
        );
        assert_eq!(
            bad(LunOptions {
                serial: Some(" a".into()),
                ..Default::default()
            }),
            "serial"
        );
        for size in [256, 1000, 32 << 20] {
            assert_eq!(
                bad(LunOptions {
                    physical_block_size: Some(size),
                    ..Default::default()
                }),
                "physical_block_size"
            );
        }
        let far = LunOptions {
            physical_block_size: Some(4096),
            lowest_aligned_lba: 8,
            ..Default::default()
        };
        assert_eq!(bad(far), "lowest_aligned_lba");
        let dull = Geometry::plain(4096, 8);
        let wants = |options: LunOptions| options.check_for(&dull).unwrap_err().what;
        assert_eq!(
            wants(LunOptions {
                thin: Some(true),
                ..Default::default()
            }),
            "thin"
        );
        assert_eq!(
            wants(LunOptions {
                write_cache: Some(true),
                ..Default::default()
            }),
            "write_cache"
        );
        assert_eq!(
            wants(LunOptions {
                physical_block_size: Some(512),
                ..Default::default()
            }),
            "physical_block_size"
        );
    }
}
