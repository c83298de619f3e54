//! Tests of planning, by topic.

mod endpoints;
mod frontends;
mod policies;
mod sources;
mod topology;
