//! What a table does, without its ids and slots. Two tables with the same meaning treat every packet in the same way.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

use crate::netns::Namespace;

/// Each frontend with its way to pick and its endpoints, and each set with its elements.
pub type Meaning = BTreeMap<String, (String, BTreeSet<String>)>;

const FRONTENDS: [&str; 3] = ["map cluster-frontends", "map external-frontends", "map node-ports"];

/// The meaning of Tandem's table of this family.
pub fn meaning(namespace: &Namespace, family: &str) -> Result<Meaning> {
    read(&super::picture(&super::text(namespace, family)?))
}

/// Keys and values, by their set or map.
struct Rows<'a>(BTreeMap<&'a str, Vec<(&'a str, &'a str)>>);

impl<'a> Rows<'a> {
    fn new(picture: &'a str) -> Self {
        let (mut place, mut rows) = ("", BTreeMap::<_, Vec<_>>::new());
        for line in picture.lines() {
            if let Some(row) = line.strip_prefix("    ") {
                rows.entry(place)
                    .or_default()
                    .push(row.rsplit_once(" : ").unwrap_or((row, "")));
            } else {
                place = line.trim();
            }
        }
        Self(rows)
    }

    fn of(&self, place: &str) -> &[(&'a str, &'a str)] {
        self.0.get(place).map_or(&[], Vec::as_slice)
    }

    /// The values of the elements whose key begins with this id.
    fn values(&self, place: &str, id: &str) -> impl Iterator<Item = &'a str> {
        let of_id = move |(key, _): &&(&str, &str)| key.split(' ').next() == Some(id);
        self.of(place).iter().filter(of_id).map(|(_, value)| *value)
    }
}

fn read(picture: &str) -> Result<Meaning> {
    let rows = Rows::new(picture);
    let mut meaning = Meaning::new();
    for map in FRONTENDS {
        for (key, id) in rows.of(map) {
            let noted = rows.values("map services", id).next();
            let noted = noted.with_context(|| format!("{key} leads to {id}, which is no service"))?;
            let way = super::parse_id(noted).with_context(|| format!("{id} leads to {noted}"))? & super::WAY;
            let how = rows.values("map picks", &format!("0:{way:x}")).next();
            let how = how.with_context(|| format!("nothing picks by number {way}"))?;
            let sticky = rows.values("map sticky-endpoints", id);
            let sticky = sticky.flat_map(|endpoint| rows.values("map endpoint-ids", endpoint));
            let endpoints = rows.values("map endpoints", id).chain(sticky).map(str::to_owned);
            meaning.insert(format!("{map} {key}"), (how.to_owned(), endpoints.collect()));
        }
    }
    for (place, elements) in rows.0.iter().filter(|(place, _)| place.starts_with("set ")) {
        let elements = elements.iter().map(|(key, _)| (*key).to_owned());
        meaning.insert((*place).to_owned(), (String::new(), elements.collect()));
    }
    Ok(meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_slots_do_not_matter() -> Result<()> {
        let table = |id: &str, first: &str, second: &str| {
            let rows = [
                "  map cluster-frontends".to_owned(),
                format!("    10.96.0.1 . tcp . 80 : {id}"),
                "  map services".to_owned(),
                format!("    {id} : {id}"),
                "  map picks".to_owned(),
                "    0:1 : jump pick-2".to_owned(),
                "    0:7 : jump pick-2".to_owned(),
                "  map endpoints".to_owned(),
                format!("    {id} . 0 : {first}"),
                format!("    {id} . 1 : {second}"),
            ];
            read(&rows.join("\n"))
        };
        let one = table("f000:1", "10.0.0.1 . 80", "10.0.0.2 . 80")?;
        assert_eq!(one, table("f000:7", "10.0.0.2 . 80", "10.0.0.1 . 80")?);
        assert_ne!(one, table("f000:1", "10.0.0.1 . 80", "10.0.0.3 . 80")?);
        Ok(())
    }
}
