//! The answers to many requests that were all answered, and what the servers saw.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result};

use crate::netns::Namespace;
use crate::traffic::{Answer, Request};

/// The answers to the same request, sent again and again.
#[derive(Clone, Debug, Default)]
pub struct Answers(Vec<Answer>);

impl Answers {
    pub(crate) fn gather(from: &Namespace, count: usize, request: &Request) -> Result<Self> {
        let one = |number: usize| {
            let outcome = request.send(from)?;
            let answer = outcome.answer().cloned();
            answer.with_context(|| format!("from {}: {request:?}: number {number}: {outcome}", from.name()))
        };
        (0..count).map(one).collect::<Result<_>>().map(Self)
    }

    /// The servers that answered, sorted, each once.
    pub fn names(&self) -> Vec<&str> {
        self.0
            .iter()
            .map(|answer| answer.by.as_str())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Which sources the servers saw, sorted, each once.
    pub fn sources(&self) -> Vec<IpAddr> {
        self.0
            .iter()
            .map(|answer| answer.source.ip())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Whether every server saw one of these sources.
    pub fn only_from(&self, sources: &[IpAddr]) -> bool {
        self.sources().iter().all(|source| sources.contains(source))
    }
}
