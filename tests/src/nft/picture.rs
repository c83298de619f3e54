//! A table without its fixed rules, in a stable order. Golden tests compare it.

use std::fmt::Write as _;

/// The chains that are made only when a Service needs them.
const ON_DEMAND: [&str; 4] = ["pick-", "stick-", "recall-", "remember-"];

/// Makes the picture from the output of `nft list table`: the sets and maps that have elements, with these sorted, and
/// the chains that were made on demand.
pub fn picture(listing: &str) -> String {
    let mut blocks = Vec::new();
    let mut lines = listing.lines();
    while let Some(line) = lines.next() {
        let Some(head) = line.strip_prefix('\t').and_then(|line| line.strip_suffix(" {")) else {
            continue;
        };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "\t}").collect();
        let (kind, name) = head.split_once(' ').unwrap_or((head, ""));
        let content = match kind {
            "chain" if ON_DEMAND.iter().any(|prefix| name.starts_with(prefix)) => {
                body.iter().map(|line| line.trim().to_owned()).collect()
            }
            "chain" => Vec::new(),
            _ => elements(&body.join("\n")),
        };
        if !content.is_empty() {
            blocks.push((kind == "chain", head, content));
        }
    }
    blocks.sort_by_key(|(is_chain, head, _)| is_chain.then_some(*head)); // sets stay in nft's order
    let title = listing.lines().next().unwrap_or_default();
    let mut text = title.split(" {").next().unwrap_or_default().to_owned() + "\n";
    for (_, head, content) in blocks {
        let _ = writeln!(text, "  {head}");
        for line in content {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}

/// The elements of a set, sorted, without counters.
fn elements(body: &str) -> Vec<String> {
    let Some((_, elements)) = body.split_once("elements = {") else {
        return Vec::new();
    };
    let elements = elements.trim_end().trim_end_matches('}');
    let mut in_quotes = false;
    let split = elements.split(|c| {
        in_quotes ^= c == '"';
        c == ',' && !in_quotes
    });
    let mut elements: Vec<String> = split.map(|element| without_counter(element.trim())).collect();
    elements.sort();
    elements
}

/// An element without its counter: `key counter packets 1 bytes 60 comment "…" : value` without the word `counter` and
/// the four words after it.
fn without_counter(element: &str) -> String {
    let words: Vec<&str> = element.split(' ').collect();
    let is_counter = |at: usize| words.get(at) == Some(&"counter") && words.get(at + 1) == Some(&"packets");
    let counter = (0..words.len()).find(|at| is_counter(*at));
    let skip = counter.map_or(0..0, |at| at..at + 5);
    let kept = words.iter().enumerate().filter(|(at, _)| !skip.contains(at));
    kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_sorted_and_fixed_chains_left_out() {
        let listing = "table ip tandem { # progname tandem\n\tmap services {\n\t\tcounter\n\
                       \t\telements = { f000:2 counter packets 7 bytes 9 comment \"a, b\" : goto pick-1,\n\
                       \t\t\t     f000:1 counter packets 0 bytes 0 : goto refuse }\n\t}\n\n\
                       \tset empty {\n\t\ttype ipv4_addr\n\t}\n\n\
                       \tchain refuse {\n\t\treject\n\t}\n\n\tchain pick-1 {\n\t\taccept\n\t}\n}\n";
        let expected = "table ip tandem\n  map services\n    f000:1 : goto refuse\n\
                        \x20   f000:2 comment \"a, b\" : goto pick-1\n  chain pick-1\n    accept\n";
        assert_eq!(picture(listing), expected);
    }
}
