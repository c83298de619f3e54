//! The ways in which a Tandem can read from the API server. `TANDEM_TEST_WAY=cache,json,http1` starts every Tandem that
//! has a kubeconfig in this way. `make cluster-ways` runs the cluster's tests once in each way.
//!
//! A test must not pass because the setting was ignored. So the log of each Tandem must say that it read in this way, or in
//! the next one that a refusal leads to. If `TANDEM_TEST_WAY_REPORT` names a file, each check adds a line to it: the way,
//! the program, and the number of lists that were read in this way itself.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail, ensure};

const WAY: &str = "TANDEM_TEST_WAY";
const REPORT: &str = "TANDEM_TEST_WAY_REPORT";

/// How lists are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lists {
    /// Object by object, as the beginning of a watch.
    Stream,
    /// From the watch cache.
    Cache,
    /// In pages.
    Pages,
}

/// In which encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// Protobuf.
    Protobuf,
    /// JSON.
    Json,
}

/// Over which HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Http {
    /// HTTP/2: one connection.
    Two,
    /// HTTP/1.1: a connection for each watch.
    One,
}

/// How a Tandem reads from the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// How lists are asked for.
    pub lists: Lists,
    /// In which encoding.
    pub encoding: Encoding,
    /// Over which HTTP.
    pub http: Http,
}

impl FromStr for Way {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(',').collect();
        let [lists, encoding, http] = parts[..] else {
            bail!("{text:?} is no way: it needs three words, like cache,json,http1");
        };
        Ok(Self {
            lists: match lists {
                "stream" => Lists::Stream,
                "cache" => Lists::Cache,
                "pages" => Lists::Pages,
                _ => bail!("{lists:?} is no way to list"),
            },
            encoding: match encoding {
                "protobuf" => Encoding::Protobuf,
                "json" => Encoding::Json,
                _ => bail!("{encoding:?} is no encoding"),
            },
            http: match http {
                "http2" => Http::Two,
                "http1" => Http::One,
                _ => bail!("{http:?} is no HTTP"),
            },
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoding = match self.encoding {
            Encoding::Protobuf => "protobuf",
            Encoding::Json => "json",
        };
        let http = match self.http {
            Http::Two => "http2",
            Http::One => "http1",
        };
        write!(f, "{},{encoding},{http}", self.lists.value().to_lowercase())
    }
}

impl Lists {
    const ALL: [Self; 3] = [Self::Stream, Self::Cache, Self::Pages];

    /// The value of `apiServer.lists`.
    pub(crate) fn value(self) -> &'static str {
        match self {
            Self::Stream => "Stream",
            Self::Cache => "Cache",
            Self::Pages => "Pages",
        }
    }

    /// What the log says about a list that was read in this way.
    fn words(self) -> &'static str {
        match self {
            Self::Stream => " one by one, in ",
            Self::Cache => " from the watch cache, in ",
            Self::Pages => " from the store, page by page, in ",
        }
    }

    /// Whether a Tandem in this way may also list in that one. A server may refuse a stream because the rights are not there
    /// yet, end it before its list, or not have a version in its watch cache.
    fn may_become(self, other: Self) -> bool {
        self == other || matches!((self, other), (Self::Stream, Self::Cache) | (Self::Cache, Self::Pages))
    }
}

impl Encoding {
    /// The value of `clientConnection.contentType`.
    pub(crate) fn value(self) -> &'static str {
        match self {
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
            Self::Json => "application/json",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Protobuf => "protobuf",
            Self::Json => "JSON",
        }
    }
}

impl Way {
    /// The way in which Tandem reads if nobody asks for another one.
    pub const USUAL: Self = Self {
        lists: Lists::Stream,
        encoding: Encoding::Protobuf,
        http: Http::Two,
    };

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let both = Lists::ALL.map(|lists| [Encoding::Protobuf, Encoding::Json].map(|encoding| (lists, encoding)));
        both.into_iter()
            .flatten()
            .flat_map(|(lists, encoding)| [Http::Two, Http::One].map(|http| Self { lists, encoding, http }))
    }

    /// The way that the environment asks for.
    pub fn asked() -> Result<Option<Self>> {
        match std::env::var(WAY) {
            Ok(text) => text.parse().map(Some).with_context(|| WAY.to_owned()),
            Err(_) => Ok(None),
        }
    }

    /// Whether each watch has a connection of its own.
    pub fn has_connections_of_its_own(self) -> bool {
        self.http == Http::One
    }

    /// Fails unless a Tandem with this log read in this way, or in one that a refusal leads to. Returns how many lists it
    /// read in this way itself.
    pub fn check(self, log: &[String]) -> Result<usize> {
        let lists: Vec<&String> = log.iter().filter(|line| line.contains(" listed ")).collect();
        let mut wanted = 0;
        for line in &lists {
            let way = Lists::ALL.into_iter().find(|way| line.contains(way.words()));
            let is_right = way.is_some_and(|way| self.lists.may_become(way));
            ensure!(
                is_right && line.ends_with(self.encoding.words()),
                "not listed in the way {self}: {line}"
            );
            wanted += usize::from(way == Some(self.lists));
        }
        let said = |text: &str| log.iter().any(|line| line.contains(text));
        let (two, one) = (
            said("the API server is asked by HTTP/2"),
            said("the API server is asked by HTTP/1.1"),
        );
        let (right, other) = match self.http {
            Http::Two => (two, one),
            Http::One => (one, two),
        };
        ensure!((right || lists.is_empty()) && !other, "not asked in the way {self}");
        Ok(wanted)
    }

    /// Adds a line about a check to the report.
    pub(crate) fn report(self, lists: usize) -> Result<()> {
        let Some(report) = std::env::var_os(REPORT).map(PathBuf::from) else {
            return Ok(());
        };
        let own = std::env::current_exe().context("find this program")?;
        let name = own.file_name().unwrap_or_default().to_string_lossy();
        // cargo adds a hash to the name.
        let name = name.rsplit_once('-').map_or(&*name, |(name, _)| name);
        let file = OpenOptions::new().create(true).append(true).open(&report);
        let mut file = file.with_context(|| format!("open {}", report.display()))?;
        writeln!(file, "{self} {name} {lists}").with_context(|| format!("write {}", report.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_read_as_they_are_written_and_nothing_else_is() {
        let ways: Vec<String> = Way::all().map(|way| way.to_string()).collect();
        assert_eq!(ways.len(), 12);
        for lists in ["stream", "cache", "pages"] {
            for encoding in ["protobuf", "json"] {
                for http in ["http2", "http1"] {
                    let text = format!("{lists},{encoding},{http}");
                    assert_eq!(text.parse::<Way>().unwrap().to_string(), text);
                    assert!(ways.contains(&text), "{text}");
                }
            }
        }
        for text in [
            "",
            "cache",
            "cache,json",
            "cache,json,http3",
            "json,cache,http2",
            "cache,json,http2,",
        ] {
            assert!(text.parse::<Way>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_log_that_says_something_else_than_the_way_is_refused() {
        const CACHE: &str = "INFO tandem: listed 3 services in 1 piece from the watch cache, in JSON";
        const STREAM: &str = "INFO tandem: listed 3 services one by one, in JSON";
        const PAGES: &str = "INFO tandem: listed 3 services in 1 piece from the store, page by page, in JSON";
        const TWO: &str = "INFO tandem: the API server is asked by HTTP/2";
        const ONE: &str = "INFO tandem: the API server is asked by HTTP/1.1, as the settings say";
        let check = |way: &str, lines: &[&str]| {
            let log: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            way.parse::<Way>().unwrap().check(&log).ok()
        };
        assert_eq!(check("cache,json,http2", &[TWO, CACHE]), Some(1));
        assert_eq!(check("cache,json,http2", &[TWO, CACHE, PAGES]), Some(1));
        assert_eq!(check("stream,json,http2", &[TWO, CACHE]), Some(0));
        assert_eq!(check("cache,json,http2", &[]), Some(0));
        assert_eq!(check("pages,json,http1", &[ONE, PAGES]), Some(1));
        for (way, lines) in [
            ("cache,json,http2", &[CACHE][..]),
            ("cache,json,http2", &[TWO, ONE, CACHE]),
            ("cache,json,http1", &[TWO, CACHE]),
            ("cache,json,http1", &[TWO]),
            ("cache,protobuf,http2", &[TWO, CACHE]),
            ("cache,json,http2", &[TWO, STREAM]),
            ("cache,json,http2", &[TWO, CACHE, STREAM]),
            ("stream,json,http2", &[TWO, PAGES]),
            ("pages,json,http2", &[TWO, PAGES, CACHE]),
        ] {
            assert_eq!(check(way, lines), None, "{way}: {lines:?}");
        }
    }
}
