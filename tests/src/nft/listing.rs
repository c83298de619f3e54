//! The output of `nft -j`, through the types of the `nftables` crate, object by object.
//!
//! The crate's types (0.6) cannot hold everything that nft 1.0.6 prints of Tandem's tables. These objects stay JSON:
//!
//! - every map. The crate's data types are a closed list without `classid`, `integer` and `verdict`, and nft prints an
//!   endpoint's type as one text, `ipv4_addr . inet_service`. The elements of a map do have types:
//!   [`Listing::elements`].
//! - rules that write a map (`update @priorities …`). nft prints them as text, because it has no JSON for them.
//! - rules that match by a flag that is not set (`"op": "!"`).
//! - rules that masquerade with one flag. nft prints a text there, but the crate expects a list.

use anyhow::{Context as _, Result, bail, ensure};
use nftables::expr::Expression;
use nftables::schema::NfListObject;
use nftables::types::NfFamily;
use serde::Deserialize;
use serde_json::Value;

use crate::netns::Namespace;

/// What nft lists.
#[derive(Debug, Deserialize)]
pub struct Listing {
    /// In nft's order. The first object describes nft itself.
    #[serde(rename = "nftables")]
    pub objects: Vec<Object>,
}

/// One object of a listing.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Object {
    /// An object that the crate has a type for.
    Typed(NfListObject<'static>),
    /// An object that the crate has no type for, as nft prints it.
    Untyped(Value),
}

/// The part of a map that has types.
#[derive(Deserialize)]
struct Map {
    family: NfFamily,
    name: String,
    #[serde(default)]
    elem: Vec<Expression<'static>>,
}

/// The output of `nft -j list` with these arguments.
pub fn list(namespace: &Namespace, arguments: &[&str]) -> Result<Listing> {
    let command: Vec<&str> = ["nft", "-j", "list"].iter().chain(arguments).copied().collect();
    parse(&namespace.exec(&command)?).with_context(|| command.join(" "))
}

fn parse(json: &str) -> Result<Listing> {
    serde_json::from_str(json).context("parse nft's JSON")
}

impl Listing {
    /// The objects that the crate has types for.
    pub fn typed(&self) -> impl Iterator<Item = &NfListObject<'static>> {
        self.objects.iter().filter_map(|object| match object {
            Object::Typed(object) => Some(object),
            Object::Untyped(_) => None,
        })
    }

    /// The elements of this map in a table of this family.
    pub fn elements(&self, family: &str, map: &str) -> Result<Vec<Expression<'static>>> {
        for object in &self.objects {
            if let Object::Untyped(object) = object
                && let Some(object) = object.get("map")
            {
                let found = Map::deserialize(object).context("read a map")?;
                if is_named(found.family, family) && found.name == map {
                    return Ok(found.elem);
                }
            }
        }
        bail!("no map {family} {map} in the listing")
    }

    /// Fails unless this is a whole table of this family and name. Objects without a type are allowed only if the crate
    /// is known to have no type for them.
    pub fn ensure_table(&self, family: &str, name: &str) -> Result<()> {
        let mut tables = self.typed().filter_map(|object| match object {
            NfListObject::Table(table) => Some(table),
            _ => None,
        });
        let table = tables.next().context("no table in the listing")?;
        ensure!(
            is_named(table.family, family) && table.name == name,
            "not the table {family} {name}: {table:?}"
        );
        for object in &self.objects {
            if let Object::Untyped(object) = object {
                ensure!(has_no_type(object), "not an object of nft's: {object}");
            }
        }
        Ok(())
    }
}

fn is_named(family: NfFamily, name: &str) -> bool {
    serde_json::to_value(family).is_ok_and(|family| family == name)
}

/// Whether this is one of the objects that the crate is known to have no type for.
fn has_no_type(object: &Value) -> bool {
    if let Some(map) = object.get("map") {
        return Map::deserialize(map).is_ok();
    }
    let statements = object["rule"]["expr"].as_array();
    statements.into_iter().flatten().any(|statement| {
        statement.is_string() || statement["match"]["op"] == "!" || statement["masquerade"]["flags"].is_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"{"table": {"family": "ip", "name": "tandem", "handle": 1, "flags": ["owner", "unknown"]}}"#;

    fn table(object: &str) -> Result<()> {
        parse(&format!(r#"{{"nftables": [{TABLE}, {object}]}}"#))?.ensure_table("ip", "tandem")
    }

    #[test]
    fn only_what_has_no_type_may_stay_json() {
        for known in [
            r#"{"chain": {"family": "ip", "table": "tandem", "name": "refuse", "handle": 2}}"#,
            r#"{"map": {"family": "ip", "name": "node-ports", "table": "tandem", "type": "classid", "map": "verdict"}}"#,
            r#"{"rule": {"family": "ip", "table": "tandem", "chain": "a", "expr": ["update @a { ct id : meta mark }"]}}"#,
        ] {
            assert!(table(known).is_ok(), "{known}");
        }
        for unknown in [
            r#"{"chain": {"family": "ip"}}"#,
            r#"{"map": {"family": "ip", "name": "a", "elem": 3}}"#,
            r#"{"rule": {"family": "ip", "table": "tandem", "chain": "a", "expr": [{"gibberish": null}]}}"#,
            "7",
        ] {
            assert!(table(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn another_table_or_none_is_not_the_table() -> Result<()> {
        let listing = parse(&format!(r#"{{"nftables": [{TABLE}]}}"#))?;
        assert!(listing.ensure_table("ip6", "tandem").is_err());
        assert!(listing.ensure_table("ip", "other").is_err());
        assert!(parse(r#"{"nftables": []}"#)?.ensure_table("ip", "tandem").is_err());
        assert!(
            parse(r#"{"nftables": [{"table": {"family": "ip", "flags": "#).is_err(),
            "as nft 1.0.6 cuts it off"
        );
        Ok(())
    }
}
