//! Socket load balancing: what a connection and a datagram cost, beside nftables and beside no proxy at all; and how the
//! maps follow the tables.

mod maps;
mod others;
mod traffic;

use anyhow::Result;

fn main() -> Result<()> {
    let only = std::env::var("ONLY").ok();
    let wants = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if wants("maps") {
        maps::measure()?;
    }
    if wants("traffic") || wants("others") {
        let site = traffic::Site::new()?;
        if wants("others") {
            others::measure(&site)?;
        }
        if wants("traffic") {
            site.measure()?;
        }
    }
    Ok(())
}
