//! A list, page by page. Each page is checked, because the end of a list removes objects that it does not name. An
//! answer 200 is not enough: a gateway's page, a Status or `{}` would look like a cluster without objects.

use super::failure::Failure;
use super::instead::{a, instead};
use super::protobuf;
use super::split::Wanted;
use super::watched::{Encoded, Resource};
use super::wire::{Page, PageMeta};
use crate::source::decode::printable;

/// No list has more pages: if all are full, these are 5 million objects.
const MOST_PAGES: usize = 10_000;

/// The pages of one list, as far as they were read.
#[derive(Debug)]
pub(super) struct Pages {
    /// What each page must be.
    wanted: Wanted,
    count: usize,
    version: String,
    after: Option<String>,
}

impl Pages {
    pub(super) fn new(resource: &Resource) -> Self {
        Self {
            wanted: Wanted::of(resource),
            count: 0,
            version: String::new(),
            after: None,
        }
    }

    /// Takes the next page, if it is one. Returns the items that are still in it: usually they were taken out of it before,
    /// one by one.
    pub(super) fn take<'t>(&mut self, text: &'t [u8]) -> Result<Vec<Encoded<'t>>, Failure> {
        let (kind, version) = (self.wanted.kind.as_str(), self.wanted.api_version);
        let page: Page<'t> = match serde_json::from_slice(text) {
            Ok(page) => page,
            Err(error) => return Err(instead(text, kind, Some(&error))),
        };
        if (page.kind.as_str(), page.api_version.as_str()) != (kind, version) {
            return Err(instead(text, &format!("{kind} of {version}"), None));
        }
        let Some(items) = page.items else {
            return Err(Failure::Garbage(format!("{} without items", a(kind))));
        };
        self.check(page.metadata)?;
        Ok(items.unwrap_or_default().into_iter().map(Encoded::Json).collect())
    }

    /// Takes the next page in protobuf, as [`Self::take`] does. A list without items is not told from one whose items
    /// are missing.
    pub(super) fn take_protobuf<'t>(&mut self, body: &'t [u8]) -> Result<Vec<Encoded<'t>>, Failure> {
        let page = protobuf::list(body, &self.wanted.kind, self.wanted.api_version)?;
        self.check(page.meta)?;
        Ok(page.items)
    }

    /// Checks that the page belongs to the list.
    fn check(&mut self, meta: PageMeta) -> Result<(), Failure> {
        // In a request, 0 stands for any version. No store has it.
        if matches!(meta.resource_version.as_str(), "" | "0") {
            let problem = format!("{} without metadata.resourceVersion", a(&self.wanted.kind));
            return Err(Failure::Garbage(problem));
        }
        self.count += 1;
        if self.count == 1 {
            self.version = meta.resource_version;
        } else if self.version != meta.resource_version {
            let (first, now) = (printable(&self.version), printable(&meta.resource_version));
            let problem = format!("page {} of version {now} in a list of version {first}", self.count);
            return Err(Failure::Pages(problem));
        }
        let after = meta.after.filter(|after| !after.is_empty());
        if after.is_some() && (after == self.after || self.count == MOST_PAGES) {
            return Err(Failure::Pages(format!("{} pages and no end of the list", self.count)));
        }
        self.after = after;
        Ok(())
    }

    /// How many pages there were.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The token to ask for the next page; none after the last page.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The version of the whole list.
    pub(super) fn version(&self) -> &str {
        &self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::watch::kinds::OfKind;
    use crate::cluster::watch::watched::Watched as _;
    use crate::event::ObjectKind;

    fn resource(kind: ObjectKind) -> Resource {
        OfKind::sample(kind, "a").resource()
    }

    fn page(version: &str, after: &str) -> String {
        format!(
            r#"{{"kind":"NodeList","apiVersion":"v1","metadata":{{"resourceVersion":"{version}","continue":"{after}"}},"items":[]}}"#
        )
    }

    #[test]
    fn a_list_without_end_ends() {
        let mut pages = Pages::new(&resource(ObjectKind::Node));
        let refused = (0..MOST_PAGES).find_map(|number| pages.take(page("5", &number.to_string()).as_bytes()).err());
        let problem = "10000 pages and no end of the list".to_owned();
        assert_eq!(refused, Some(Failure::Pages(problem)));
    }

    #[test]
    fn each_kind_has_a_list_of_its_own() {
        for kind in ObjectKind::ALL {
            let own = resource(kind);
            for other in ObjectKind::ALL {
                let other = resource(other);
                let text = format!(
                    r#"{{"kind":"{}","apiVersion":"{}","metadata":{{"resourceVersion":"5"}},"items":null}}"#,
                    other.list_kind(),
                    other.api_version()
                );
                assert_eq!(
                    Pages::new(&own).take(text.as_bytes()).is_ok(),
                    own.kind == other.kind,
                    "{text}"
                );
            }
        }
    }
}
