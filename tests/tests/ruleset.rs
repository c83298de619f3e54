//! `tandem ruleset`: both tables as nft prints them, and as one document of JSON or YAML. Needs root.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use nftables::expr::{Expression, NamedExpression};
use nftables::schema::NfListObject;
use serde_json::{Value, json};
use tandem_tests::manifests::{Folder, Service, Slice};
use tandem_tests::netns::Namespace;
use tandem_tests::nft::{self, Listing};
use tandem_tests::scratch::Scratch;
use tandem_tests::tandem::{Tandem, binary};
use tandem_tests::traffic::Protocol;

const FRONTENDS: [(&str, &str); 2] = [("ip", "10.96.0.10"), ("ip6", "fd00:10:96::10")];

/// A node with one Service, `shop/web:http`.
struct Node {
    tandem: Tandem,
    namespace: Namespace,
    _scratch: Scratch,
}

impl Node {
    fn new() -> Result<Self> {
        let scratch = Scratch::new("ruleset")?;
        let folder = Folder::new(scratch.path().join("manifests"))?;
        let service = Service::new("shop", "web").cluster_ips(&FRONTENDS.map(|(_, address)| address));
        let slice = Slice::new("shop", "web-v4", "web")
            .port("http", Protocol::Tcp, 8080)
            .ready("10.244.1.10".parse()?, "node1");
        let service = service.port("http", Protocol::Tcp, 80, 8080).build();
        folder.write("web.yaml", &[service, slice.build()])?;
        let namespace = Namespace::new("ruleset")?;
        let mut tandem = Tandem::in_namespace(&namespace, "node1").directory(&folder).start()?;
        tandem.wait_ready()?;
        Ok(Self {
            tandem,
            namespace,
            _scratch: scratch,
        })
    }
}

/// `tandem ruleset` with these arguments.
fn ruleset(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("ruleset").args(arguments);
    Ok(command)
}

fn run(namespace: &Namespace, command: &mut Command) -> Result<Output> {
    namespace
        .run(|| command.output())?
        .with_context(|| format!("run {command:?}"))
}

fn printed(namespace: &Namespace, arguments: &[&str]) -> Result<String> {
    let output = run(namespace, &mut ruleset(arguments)?)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

/// What it complains of, having printed nothing.
fn complaint(namespace: &Namespace, command: &mut Command) -> Result<String> {
    let output = run(namespace, command)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.code() == Some(3) && printed.is_empty(),
        "{}: {printed}",
        output.status
    );
    Ok(String::from_utf8(output.stderr)?.trim_end().to_owned())
}

/// Fails unless the map of ClusterIPs leads from the Service's address to an id.
fn ensure_frontend(listing: &Listing, family: &str, address: &str) -> Result<()> {
    let elements = listing.elements(family, "cluster-frontends")?;
    let text = |text: &str| Expression::String(text.to_owned().into());
    let key = [text(address), text("tcp"), Expression::Number(80)];
    let is_ours = |element: &Expression| match element {
        Expression::List(pair) => match &pair[..] {
            [Expression::Named(NamedExpression::Elem(elem)), Expression::String(id)] => {
                elem.comment.as_deref() == Some("shop/web:http")
                    && *elem.val == Expression::Named(NamedExpression::Concat(key.to_vec()))
                    && id.starts_with("f0")
            }
            _ => false,
        },
        _ => false,
    };
    ensure!(elements.iter().any(is_ours), "no {address} in {elements:?}");
    Ok(())
}

#[test]
fn both_tables_are_one_document_of_json_or_yaml_with_all_that_nft_prints() -> Result<()> {
    let node = Node::new()?;
    let text = printed(&node.namespace, &["-o", "json"])?;
    let listing: Listing = serde_json::from_str(&text)?;
    for (family, address) in FRONTENDS {
        ensure_frontend(&listing, family, address)?;
    }
    let is_metainfo = |object: &&NfListObject| matches!(object, NfListObject::MetainfoObject(_));
    assert_eq!(listing.typed().filter(is_metainfo).count(), 1);
    assert!(listing.typed().next().as_ref().is_some_and(is_metainfo));

    let document: Value = serde_json::from_str(&text)?;
    let mut expected = Vec::new();
    for family in nft::FAMILIES {
        let text = node
            .namespace
            .exec(&["nft", "-j", "list", "table", family, nft::TABLE])?;
        let table: Value = serde_json::from_str(&text)?;
        let objects = table["nftables"].as_array().context("no objects")?;
        expected.extend(objects[usize::from(family != "ip")..].iter().cloned());
    }
    assert_eq!(document, json!({ "nftables": expected }));

    let yaml: Value = serde_saphyr::from_str(&printed(&node.namespace, &["--output=yaml"])?)?;
    assert_eq!(yaml, document);

    for (name, (family, address), other) in [("ipv4", FRONTENDS[0], "ip6"), ("ipv6", FRONTENDS[1], "ip")] {
        let one = printed(&node.namespace, &["-o", "json", "--family", name])?;
        let listing: Listing = serde_json::from_str(&one)?;
        ensure_frontend(&listing, family, address)?;
        listing.ensure_table(family, nft::TABLE)?;
        assert!(listing.elements(other, "cluster-frontends").is_err());
    }
    node.tandem.finish()
}

#[test]
fn the_text_is_what_nft_prints() -> Result<()> {
    let node = Node::new()?;
    let [v4, v6] = nft::FAMILIES.map(|family| nft::text(&node.namespace, family));
    let (v4, v6) = (v4?, v6?);
    assert_eq!(printed(&node.namespace, &[])?, format!("{v4}{v6}"));
    assert_eq!(printed(&node.namespace, &["-o", "wide"])?, format!("{v4}{v6}"));
    assert_eq!(printed(&node.namespace, &["--family", "ipv6"])?, v6);
    node.tandem.finish()
}

/// nft before 1.1 breaks off there, where tables can be owned.
#[test]
fn while_no_tandem_runs_the_tables_are_printed_or_it_is_said_why_not() -> Result<()> {
    let mut node = Node::new()?;
    node.tandem.kill()?;
    assert!(printed(&node.namespace, &[])?.contains("shop/web:http"));
    for form in ["json", "yaml"] {
        let output = run(&node.namespace, &mut ruleset(&["-o", form])?)?;
        let (text, complaint) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        if output.status.success() {
            ensure!(text.contains("shop/web:http"), "{text}");
        } else {
            let version = nft::version()?;
            let says = format!("error: the JSON of nft {version} for table ip tandem cannot be read: ");
            ensure!(text.is_empty() && complaint.starts_with(&says), "{text}{complaint}");
        }
    }
    node.tandem.finish()
}

#[test]
fn what_stands_in_the_way_is_said_in_the_same_words_for_every_form() -> Result<()> {
    let (empty, scratch) = (Namespace::new("empty")?, Scratch::new("no-nft")?);
    let all = [&[][..], &["-o", "json"], &["-o", "yaml"]];
    for arguments in all {
        assert_eq!(
            complaint(&empty, &mut ruleset(arguments)?)?,
            "error: nft list table ip tandem: No such file or directory"
        );
        assert_eq!(
            complaint(&empty, ruleset(arguments)?.env("PATH", scratch.path()))?,
            "error: nft is not installed here (the package is called nftables). From a container without it: run `nft list table ip \
             tandem` on the node, or in a container of the host's network that has nft"
        );
    }
    let node = Node::new()?;
    for arguments in all {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
        command.arg(binary()?).arg("ruleset").args(arguments);
        let told = complaint(&node.namespace, &mut command)?;
        assert!(told.contains("Operation not permitted (you must be root)"), "{told}");
    }
    node.tandem.finish()
}

#[test]
fn json_that_cannot_be_read_is_an_error_that_names_nft_and_what_to_do() -> Result<()> {
    let (namespace, scratch) = (Namespace::new("garbled")?, Scratch::new("nft")?);
    let (nft, answer) = (scratch.path().join("nft"), scratch.path().join("answer"));
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'nftables v1.0.6 (Lester Gooch #5)' && exit\nexec /bin/cat {}\n",
        answer.display()
    );
    fs::write(&nft, script)?;
    fs::set_permissions(&nft, Permissions::from_mode(0o755))?;
    let answers: [&[u8]; 7] = [
        b"",
        b"{\"nftables\": [{\"metainfo\": {\"version\": \"1.0.6\"}}, {\"table\": {\"family\": \"ip\", \"flags\": \n",
        b"{\"nftables\": [{\"table\": {\"family\": \"ip\", \"name\": \"tandem\", \"flags\": \"\xff\xfe\"}}]}",
        b"{\"nftables\": [{\"table\": {\"family\": \"ip6\", \"name\": \"tandem\"}}]}",
        b"{\"nftables\": 7}",
        b"{}",
        b"table ip tandem {\n}\n",
    ];
    for bytes in answers {
        fs::write(&answer, bytes)?;
        for form in ["json", "yaml"] {
            let told = complaint(&namespace, ruleset(&["-o", form])?.env("PATH", scratch.path()))?;
            let (says, advises) = (
                "error: the JSON of nft 1.0.6 for table ip tandem cannot be read: ",
                "nft -j list table ip tandem",
            );
            ensure!(told.starts_with(says) && told.ends_with(advises), "{told}");
        }
    }
    let told = run(&namespace, &mut ruleset(&["-o", "xml"])?)?;
    assert_eq!(told.status.code(), Some(2));
    Ok(())
}
