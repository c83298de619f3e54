//! Tests of planning, by topic.

mod choice;
mod endpoints;
mod frontends;
mod limits;
mod policies;
mod sources;
mod topology;
