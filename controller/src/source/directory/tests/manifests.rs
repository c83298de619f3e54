//! How the text of one file is read.

use super::*;

#[test]
fn faults_name_line_document_object_and_field() {
    let good = service("web", "10.96.0.1");
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Node, metadata: {name: a}}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n  spec:\n    externalIPs: {}\n";
    for (format, text, fault) in [
        (
            Format::Yaml,
            format!("{good}{}", service("api", "10.96.0.2").replace("80", "http")),
            "line 15, column 11: document 2: Service shop/api: spec.ports[0].port: ",
        ),
        (
            Format::Yaml,
            list.to_owned(),
            "line 9, column 18: document 1: Service b: items[1].spec.externalIPs: ",
        ),
        (
            Format::Yaml,
            format!("{good}kind: Service\nmetadata: [\n"),
            "document 2: ",
        ),
        (
            Format::Json,
            "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\n\"metadata\":{\"name\":\"web\"},\"spec\":{\"clusterIP\":7}}"
                .to_owned(),
            "line 2, column 47: document 1: Service web: spec.clusterIP: \"7\": not a string",
        ),
        (
            Format::Json,
            "{\n\"kind\":}".to_owned(),
            "line 2, column 8: expected value",
        ),
        (
            Format::Yaml,
            "apiVersion: v1\nkind: Service\nspec: {clusterIP: 10.0.0.1}\n".to_owned(),
            "document 1: Service: metadata.name is missing",
        ),
        (
            Format::Yaml,
            format!("{good}kind: Service\nmetadata: {{name: api}}\n"),
            "line 8, column 1: document 2: Service api: apiVersion: is missing",
        ),
        (
            Format::Json,
            r#"{"apiVersion":"v1","metadata":{"name":"api"}}"#.to_owned(),
            "document 1: object api: kind: is missing",
        ),
        (
            Format::Yaml,
            "apiVersion: v1\nkind: Service\nmetadata: {name: 'a\"b'}\n".to_owned(),
            r#"metadata.name: "a\"b" is not a name: letters, digits, - and . only"#,
        ),
    ] {
        let manifest = manifest::parse(&Decoder::new("node-a"), format, &text);
        let faults: Vec<String> = manifest.faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(fault), "{}\nwants {fault}", faults[0]);
    }
}

#[test]
fn what_is_broken_in_a_list_costs_nothing_beside_it() {
    let item = |name: &str, port: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}"}},"spec":{{"clusterIP":"10.96.0.1","ports":[{{"port":{port}}}]}}}}"#
        )
    };
    let list = |items: &[String]| format!(r#"{{"apiVersion":"v1","kind":"List","items":[{}]}}"#, items.join(","));
    let decoder = Decoder::new("node-a");
    let (good, bad) = (|name: &str| item(name, "80"), |name: &str| item(name, "{}"));
    let odd = [
        good("a"),
        bad("b"),
        "null".into(),
        "[7]".into(),
        good("c"),
        r#"{"kind":[]}"#.into(),
        bad("d"),
        good("e"),
    ];
    for format in [Format::Yaml, Format::Json] {
        let manifest = manifest::parse(&decoder, format, &list(&odd));
        let names: Vec<String> = manifest
            .objects
            .iter()
            .map(|o| o.decoded.key().name.to_string())
            .collect();
        assert_eq!(names, ["a", "c", "e"], "{format:?}");
        let faults: Vec<String> = manifest.faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 5, "{faults:?}");
        // With this many broken items, the list is not read again for each.
        let many: Vec<String> = (0..50)
            .flat_map(|n| [good(&format!("g{n}")), bad(&format!("b{n}"))])
            .collect();
        let manifest = manifest::parse(&decoder, format, &list(&many));
        assert_eq!((manifest.objects.len(), manifest.faults.len()), (16, 17), "{format:?}");
    }
}

#[test]
fn an_item_of_another_kind_than_its_list_is_a_fault_and_no_empty_object() {
    let text = r#"{"apiVersion":"v1","kind":"ServiceList","items":[{"kind":"Pod","metadata":{"name":"web"}},
        {"metadata":{"name":"api"},"spec":{"clusterIP":"10.96.0.1"}}]}"#;
    for format in [Format::Yaml, Format::Json] {
        let manifest = manifest::parse(&Decoder::new("node-a"), format, text);
        assert_eq!(manifest.objects.len(), 1, "{format:?}");
        let faults: Vec<String> = manifest.faults.iter().map(ToString::to_string).collect();
        assert!(
            matches!(&faults[..], [fault] if fault.contains(r#"kind is "Pod", not Service"#)),
            "{faults:?}"
        );
    }
}

#[test]
fn nesting_and_aliases_have_an_end() {
    let decoder = Decoder::new("node-a");
    let bomb = (0..60).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        text + &format!("a{}: &a{} [*a{n}, *a{n}]\n", n + 1, n + 1)
    });
    let anchors = (0..60).fold(String::new(), |text, n| text + &format!("{}- &b{n}\n", " ".repeat(n)))
        + &" ".repeat(60)
        + "- x\n";
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        bomb,
        anchors,
    ] {
        let manifest = manifest::parse(&decoder, Format::Yaml, &text);
        assert_eq!(manifest.faults.len(), 1, "{text:.80}");
        let said = manifest.faults[0].to_string();
        assert!(said.len() < 1024, "{said:.200}");
    }
}

#[test]
fn no_text_panics() {
    let decoder = Decoder::new("node-a");
    let whole = service("web", "10.96.0.1")
        + &service("api", "::1")
        + "kind: List\napiVersion: v1\nitems: [null, 7, {kind: Service, apiVersion: v1}]\n";
    for end in 0..whole.len() {
        for format in [Format::Yaml, Format::Json] {
            manifest::parse(&decoder, format, &whole[..end]);
            manifest::parse(&decoder, format, &whole[end..]);
        }
    }
    for text in [
        "a: &a [*a]",
        "&a {x: *a}",
        "!!binary x",
        "? {}",
        "- - - -",
        "%YAML 9.9\n---\n",
        "kind: Service\napiVersion: v1\n<<: 7",
    ] {
        manifest::parse(&decoder, Format::Yaml, text);
    }
}
