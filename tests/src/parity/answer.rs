//! The result of a flow, and whether two worlds agree on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::flow::{Expect, Sources};
use crate::traffic::Outcome;

/// If a refusal came within this time, no packet had to be sent again.
const AT_ONCE: Duration = Duration::from_millis(100);

/// The results of all requests of one flow in one world.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Who answered, and how often.
    pub by: BTreeMap<String, usize>,
    /// Which sources the servers saw.
    pub sources: BTreeSet<IpAddr>,
    /// The same with their ports.
    pub(super) seen: BTreeSet<SocketAddr>,
    /// How often each other result occurred, by its kind.
    pub failed: BTreeMap<&'static str, usize>,
    /// The own addresses and ports of the sockets that got an answer.
    pub(super) own: BTreeSet<SocketAddr>,
    refusals: Vec<Duration>,
}

/// What is known about a flow besides its answer.
pub(super) struct Rule<'a> {
    pub(super) expect: &'a Expect,
    pub(super) sources: Sources,
    /// The sender's addresses.
    pub(super) sender: &'a [IpAddr],
    /// Whether the sender is a node. Its own datagrams are refused by the call that sends them.
    pub(super) from_node: bool,
    /// Whether it sends datagrams on sockets that are not connected. They are not told of refusals.
    pub(super) unconnected: bool,
    /// The server that answered earlier flows and must answer this one.
    pub(super) stuck: Option<&'a str>,
}

impl Answer {
    /// Adds the result of a request that came from this address and port, if that is known.
    pub(super) fn add(&mut self, outcome: &Outcome, own: Option<SocketAddr>) {
        match outcome {
            Outcome::Answered(answer) => {
                *self.by.entry(answer.by.clone()).or_default() += 1;
                self.sources.insert(answer.source.ip());
                self.seen.insert(answer.source);
                self.own.extend(own);
                return;
            }
            Outcome::Refused { after } | Outcome::Unreachable { after } => self.refusals.push(*after),
            Outcome::Failed(_) | Outcome::Reset { .. } | Outcome::TimedOut { .. } => {}
        }
        *self.failed.entry(outcome.kind()).or_default() += 1;
    }

    /// The servers that answered, each once.
    pub fn names(&self) -> BTreeSet<String> {
        self.by.keys().cloned().collect()
    }

    /// The only server that answered.
    pub(super) fn only(&self) -> Option<&str> {
        let mut names = self.by.keys();
        names.next().filter(|_| self.by.len() == 1).map(String::as_str)
    }

    /// The number of requests with this result.
    pub(super) fn count(&self, kind: &str) -> usize {
        self.failed.get(kind).copied().unwrap_or_default()
    }

    fn kinds(&self) -> BTreeSet<&'static str> {
        self.failed.keys().copied().collect()
    }

    /// The median time of a refusal.
    pub(super) fn time_to_refuse(&self) -> Option<Duration> {
        let mut times = self.refusals.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    fn is_at_once(&self) -> Option<bool> {
        self.time_to_refuse().map(|time| time < AT_ONCE)
    }

    /// Whether it is as expected.
    pub(super) fn fits(&self, rule: &Rule) -> bool {
        let all = |kind: &str| self.by.is_empty() && self.failed.len() == 1 && self.count(kind) > 0;
        let answer = match rule.expect {
            Expect::Answers(names) => self.failed.is_empty() && self.names() == *names,
            Expect::OneOf(names) => {
                self.failed.is_empty()
                    && self
                        .only()
                        .is_some_and(|name| names.contains(name) && rule.stuck.is_none_or(|stuck| stuck == name))
            }
            Expect::Partly(names) => self.names() == *names && self.count("timed out") > 0 && self.failed.len() == 1,
            Expect::Refused => {
                all("refused") || rule.from_node && all("unreachable") || rule.unconnected && all("timed out")
            }
            Expect::Dropped => all("timed out"),
            Expect::Unreachable => all("unreachable"),
            Expect::Any => true,
        };
        answer && self.sources_fit(rule)
    }

    fn sources_fit(&self, rule: &Rule) -> bool {
        let is_own = |source: &IpAddr| rule.sender.contains(source);
        match rule.sources {
            Sources::Kept => self.sources.iter().all(is_own),
            Sources::Masqueraded => !self.sources.iter().any(is_own),
            Sources::Same | Sources::Any => true,
        }
    }

    /// Whether `other` is the same answer, as far as the rule compares, and comes as soon.
    pub(super) fn agrees(&self, other: &Self, rule: &Rule) -> bool {
        self.says_the_same(other, rule) && self.is_at_once() == other.is_at_once()
    }

    /// Whether `other` is the same refusal, but at once, while this one was late.
    pub(super) fn is_refused_sooner_by(&self, other: &Self, rule: &Rule) -> bool {
        self.says_the_same(other, rule) && self.is_at_once() == Some(false) && other.is_at_once() == Some(true)
    }

    /// Whether `other` is the same answer, but servers saw the sender's own address alone.
    pub(super) fn agrees_but_for_kept_sources(&self, other: &Self, rule: &Rule) -> bool {
        let any = Rule {
            sources: Sources::Any,
            ..*rule
        };
        let is_own = |source: &IpAddr| rule.sender.contains(source);
        self.agrees(other, &any) && !other.sources.is_empty() && other.sources.iter().all(is_own)
    }

    fn says_the_same(&self, other: &Self, rule: &Rule) -> bool {
        let one_of = matches!(rule.expect, Expect::OneOf(_));
        let names = if one_of {
            other.fits(rule)
        } else {
            self.names() == other.names()
        };
        // The address with which a packet leaves the node depends on its destination.
        let other_way = one_of && self.only() != other.only();
        let sources = match rule.sources {
            Sources::Any => true,
            _ if other_way => self.has_own(rule) == other.has_own(rule),
            _ => self.sources == other.sources && other.sources_fit(rule),
        };
        names && sources && self.kinds() == other.kinds()
    }

    fn has_own(&self, rule: &Rule) -> bool {
        self.sources.iter().any(|source| rule.sender.contains(source))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.by.is_empty() {
            let join = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(" ");
            let names = join(&mut self.by.keys().cloned());
            parts.push(format!(
                "{names} saw {}",
                join(&mut self.sources.iter().map(ToString::to_string))
            ));
        }
        for kind in self.kinds() {
            let word = if kind == "timed out" { "dropped" } else { kind };
            let time = self
                .time_to_refuse()
                .filter(|_| matches!(kind, "refused" | "unreachable"));
            let time = time.map(|time| format!(" after {:.1} ms", time.as_secs_f64() * 1e3));
            let share = if parts.is_empty() && self.failed.len() == 1 {
                String::new()
            } else {
                format!(" {}x", self.count(kind))
            };
            parts.push(format!("{word}{share}{}", time.unwrap_or_default()));
        }
        formatter.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Answer as Reply;

    fn answered(by: &str, source: &str) -> Outcome {
        let source = format!("{source}:1000").parse().unwrap();
        Outcome::Answered(Reply {
            by: by.to_owned(),
            source,
            elapsed: Duration::ZERO,
        })
    }

    fn of(outcomes: &[Outcome]) -> Answer {
        let mut answer = Answer::default();
        for outcome in outcomes {
            answer.add(outcome, None);
        }
        answer
    }

    fn list(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn rule<'a>(expect: &'a Expect, sources: Sources, sender: &'a [IpAddr]) -> Rule<'a> {
        Rule {
            expect,
            sources,
            sender,
            from_node: false,
            unconnected: false,
            stuck: None,
        }
    }

    #[test]
    fn answers_agree_only_where_servers_sources_and_kinds_of_failure_do() {
        let both = Expect::Answers(list(&["a", "b"]));
        let rule = rule(&both, Sources::Same, &[]);
        let theirs = of(&[answered("a", "10.0.0.1"), answered("b", "10.0.0.1")]);
        assert!(theirs.fits(&rule));
        assert!(theirs.agrees(&of(&[answered("b", "10.0.0.1"), answered("a", "10.0.0.1")]), &rule));
        for other in [
            of(&[answered("a", "10.0.0.1")]),
            of(&[answered("a", "10.0.0.1"), answered("b", "10.0.0.2")]),
            of(&[
                answered("a", "10.0.0.1"),
                answered("b", "10.0.0.1"),
                Outcome::TimedOut { after: Duration::ZERO },
            ]),
        ] {
            assert!(!theirs.agrees(&other, &rule), "{other}");
        }
    }

    #[test]
    fn a_late_refusal_is_not_the_same_and_only_its_sender_can_be_outdone() {
        let rule = rule(&Expect::Refused, Sources::Same, &[]);
        let soon = of(&[Outcome::Refused {
            after: Duration::from_millis(1),
        }]);
        let late = of(&[Outcome::Refused {
            after: Duration::from_secs(1),
        }]);
        assert!(soon.fits(&rule) && late.fits(&rule));
        assert!(!soon.agrees(&late, &rule) && !late.agrees(&soon, &rule));
        assert!(late.is_refused_sooner_by(&soon, &rule) && !soon.is_refused_sooner_by(&late, &rule));
    }

    #[test]
    fn one_of_lets_each_world_choose_but_only_one_server_and_the_one_that_it_stuck_to() {
        let expect = Expect::OneOf(list(&["a", "b"]));
        let mut rule = rule(&expect, Sources::Same, &[]);
        let (a, b) = (of(&[answered("a", "10.0.0.1")]), of(&[answered("b", "10.0.0.2")]));
        let mixed = of(&[answered("a", "10.0.0.1"), answered("b", "10.0.0.1")]);
        assert!(a.agrees(&b, &rule) && !a.agrees(&mixed, &rule) && !mixed.fits(&rule));
        rule.stuck = Some("a");
        assert!(a.fits(&rule) && !b.fits(&rule));
    }

    #[test]
    fn only_the_senders_own_address_is_a_kept_source_and_only_of_the_same_servers() {
        let (expect, own) = (Expect::Answers(list(&["a"])), ["10.0.0.1".parse().unwrap()]);
        let rule = rule(&expect, Sources::Masqueraded, &own);
        let theirs = of(&[answered("a", "10.0.0.9")]);
        let kept = of(&[answered("a", "10.0.0.1")]);
        assert!(!theirs.agrees(&kept, &rule) && theirs.agrees_but_for_kept_sources(&kept, &rule));
        for other in [
            of(&[answered("b", "10.0.0.1")]),
            of(&[answered("a", "10.0.0.8")]),
            of(&[answered("a", "10.0.0.1"), answered("a", "10.0.0.9")]),
            of(&[answered("a", "10.0.0.1"), Outcome::TimedOut { after: Duration::ZERO }]),
        ] {
            assert!(!theirs.agrees_but_for_kept_sources(&other, &rule), "{other}");
        }
    }

    #[test]
    fn kept_and_masqueraded_are_about_the_senders_own_address() {
        let (expect, own) = (Expect::Answers(list(&["a"])), ["10.0.0.1".parse().unwrap()]);
        let (kept, changed) = (of(&[answered("a", "10.0.0.1")]), of(&[answered("a", "10.0.0.9")]));
        let rule = |sources| rule(&expect, sources, &own);
        assert!(kept.fits(&rule(Sources::Kept)) && !changed.fits(&rule(Sources::Kept)));
        assert!(!kept.fits(&rule(Sources::Masqueraded)) && changed.fits(&rule(Sources::Masqueraded)));
    }
}
