//! The documents of a file: their text, and the line at which each begins.

use serde_json::value::RawValue;

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

/// One document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    pub(super) text: &'a str,
    /// The number of lines of the file before it.
    pub(super) line: usize,
}

impl Format {
    /// The format that a file's name stands for. None if it is not the name of a manifest.
    pub(super) fn of(name: &std::path::Path) -> Option<Self> {
        // Temporary files of editors and copying programs are hidden, or have another ending.
        if name.to_str()?.starts_with(['.', '#']) {
            return None;
        }
        match name.extension()?.to_str()? {
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The documents of a YAML file. A line that begins with `---` always ends a document, even inside a block of text.
pub(super) fn yaml(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is_marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if is_marker && at > start {
            documents.push(Document {
                text: &text[start..at],
                line: start_line,
            });
            (start, start_line) = (at, number);
        }
        at += line.len();
    }
    documents.push(Document {
        text: &text[start..],
        line: start_line,
    });
    documents.retain(|document| {
        document.text.lines().any(|line| {
            let line = line.trim_start_matches("---").trim();
            !line.is_empty() && !line.starts_with(['#', '%']) && line != "..."
        })
    });
    documents
}

/// The documents of a JSON file, one after the other. The error is where the text is no longer JSON.
pub(super) fn json(text: &str) -> Result<Vec<Document<'_>>, serde_json::Error> {
    let mut documents = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let (mut line, mut counted) = (0, 0);
    while let Some(value) = stream.next() {
        let value = value?.get();
        let start = stream.byte_offset() - value.len();
        line += text[counted..start].matches('\n').count();
        counted = start;
        documents.push(Document { text: value, line });
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_know_their_line() {
        let text = "# a comment\n---\na: 1\n---\n\n---\nb: 2\n--- # more\nc: |\n  --- not a marker\n---x: 1\n";
        let documents: Vec<_> = yaml(text)
            .into_iter()
            .map(|document| (document.line, document.text.len()))
            .collect();
        assert_eq!(documents, [(1, 9), (5, 9), (7, 43)]);
        assert!(yaml("").is_empty() && yaml("---\n# nothing\n---\n").is_empty());
    }

    #[test]
    fn json_documents_follow_one_another() {
        let documents = json("{\"a\":1}\n\n {\n\"b\":2}\n").unwrap();
        assert_eq!(
            documents.iter().map(|document| document.line).collect::<Vec<_>>(),
            [0, 2]
        );
        assert!(json("{\"a\":1} {").is_err());
    }

    #[test]
    fn only_manifests_are_read() {
        for (name, format) in [
            ("a.yaml", Some(Format::Yaml)),
            ("a.b.yml", Some(Format::Yaml)),
            ("a.json", Some(Format::Json)),
            (".a.yaml", None),
            (".a.yaml.swp", None),
            ("a.yaml~", None),
            ("#a.yaml#", None),
            ("#a.yaml", None),
            ("4913", None),
            ("a.yaml.tmp", None),
            ("..data", None),
        ] {
            assert_eq!(Format::of(name.as_ref()), format, "{name}");
        }
    }
}
