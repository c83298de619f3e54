//! For tests: watches all objects of a path.

use super::watch::{Change, Encoded, ListState, ReadObject, Resource, Watched, WrongKind};
use crate::event::Reach;

/// All objects of a path. An event is what happened, and the object's text.
#[derive(Debug)]
pub(super) struct All {
    pub(super) kind: &'static str,
    pub(super) path: &'static str,
}

impl Watched for All {
    type Event = String;

    fn resource(&self) -> Resource {
        Resource {
            kind: self.kind,
            path: self.path,
            labels: "",
            fields: String::new(),
            fields_may_fail: false,
            optional: false,
        }
    }

    fn read(&self, change: Change, object: Encoded<'_>) -> Result<ReadObject<String>, WrongKind> {
        let Encoded::Json(text) = object else {
            panic!("{object:?}")
        };
        Ok(ReadObject {
            event: Some(format!("{change:?} {text}")),
            version: object.version(),
        })
    }

    fn tell(&self, told: ListState) -> String {
        match told {
            ListState::Reach(Reach::Lost(reason)) => format!("lost: {reason}"),
            told => format!("{told:?}"),
        }
    }
}
