//! Lists whose bytes arrive in every way.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cluster::watch::kinds::OfKind;
use crate::cluster::watch::protobuf;
use crate::cluster::watch::watched::{Encoded, Watched as _};
use crate::cluster::watch::wire::Page;
use crate::event::ObjectKind;
use crate::source::decode::protobuf::tests::put_bytes;

fn wanted() -> Wanted {
    Wanted::of(&OfKind::sample(ObjectKind::Service, "a").resource())
}

/// The items that are given out, and what the end says.
type Outcome = (Vec<Vec<u8>>, Result<Vec<u8>, Failure>);

fn split<'a>(encoding: Encoding, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut splitter, mut items) = (Splitter::new(encoding, wanted()), Vec::new());
    for piece in pieces {
        if let Err(failure) = splitter.feed(piece) {
            return (items, Err(failure));
        }
        loop {
            match splitter.find() {
                Ok(Some(found)) => items.push(splitter.item(found).to_vec()),
                Ok(None) => break,
                Err(failure) => return (items, Err(failure)),
            }
        }
    }
    let end = splitter.end().map(<[u8]>::to_vec);
    (items, end)
}

/// All items of a page: those that were given out, and those that were left in it. None if it is no page.
fn all(encoding: Encoding, (mut items, end): Outcome) -> Option<Vec<Vec<u8>>> {
    let end = end.ok()?;
    match encoding {
        Encoding::Json => {
            let page: Page<'_> = serde_json::from_slice(&end).ok()?;
            let left = page.items.flatten().unwrap_or_default();
            items.extend(left.iter().map(|item| item.get().as_bytes().to_vec()));
        }
        Encoding::Protobuf => {
            let wanted = wanted();
            let list = protobuf::list(&end, &wanted.kind, wanted.api_version).ok()?;
            // Without one, what was read is no page.
            let _version = Some(list.meta.resource_version).filter(|version| !version.is_empty())?;
            items.extend(list.items.iter().filter_map(|item| match item {
                Encoded::Protobuf { bytes, .. } => Some(bytes.to_vec()),
                Encoded::Json(_) => None,
            }));
        }
    }
    Some(items)
}

fn json(items: &str) -> String {
    format!(r#"{{"kind":"ServiceList","apiVersion":"v1","metadata":{{"resourceVersion":"5"}},"items":{items}}}"#)
}

fn put_varint(out: &mut Vec<u8>, field: u8, value: u8) {
    out.extend([field << 3, value]);
}

/// A list in protobuf, with fields that nobody knows between the others.
fn message(kind: &str, items: &[&[u8]]) -> Vec<u8> {
    let (mut of, mut meta, mut list, mut whole) = (Vec::new(), Vec::new(), Vec::new(), b"k8s\0".to_vec());
    put_bytes(&mut of, 1, b"v1");
    put_bytes(&mut of, 2, kind.as_bytes());
    put_bytes(&mut meta, 2, b"5");
    put_bytes(&mut list, 1, &meta);
    for item in items {
        put_bytes(&mut list, 2, item);
        put_varint(&mut list, 2, 7);
        put_varint(&mut list, 9, 7);
    }
    put_bytes(&mut whole, 1, &of);
    put_bytes(&mut whole, 2, &list);
    put_bytes(&mut whole, 3, b"");
    put_bytes(&mut whole, 4, b"");
    whole
}

#[test]
fn a_list_of_another_version_than_may_be_gives_out_no_item_and_is_kept() {
    for (encoding, list, items) in lists() {
        for (versions, allowed) in [
            (Versions::NotBefore("4".to_owned()), true),
            (Versions::NotBefore("6".to_owned()), false),
            (Versions::Only("5".to_owned()), true),
            (Versions::Only("4".to_owned()), false),
        ] {
            let wanted = Wanted { versions, ..wanted() };
            let mut splitter = Splitter::new(encoding, wanted.clone());
            let mut given = 0;
            for piece in list.chunks(7) {
                splitter.feed(piece).unwrap();
                while splitter.find().unwrap().is_some() {
                    given += 1;
                }
            }
            let end = splitter.end().map(<[u8]>::to_vec);
            assert_eq!(given, if allowed { items.len() } else { 0 }, "{encoding} {wanted:?}");
            assert_eq!(end.unwrap() == list, !allowed, "{encoding} {wanted:?}");
        }
    }
}

const ITEMS: [&str; 6] = [
    r#"{"metadata":{"name":"a"},"spec":{"items":[1,{"a":"]}"}]}}"#,
    r#"{"text":"quotes \" and \\","more":"{[,"}"#,
    "[]",
    "\"text\"",
    "7",
    "null",
];

fn lists() -> Vec<(Encoding, Vec<u8>, Vec<Vec<u8>>)> {
    let items: Vec<Vec<u8>> = ITEMS.iter().map(|item| item.as_bytes().to_vec()).collect();
    let texts = [
        json(&format!("[{}]", ITEMS.join(","))),
        json(&format!(" [ {} ] ", ITEMS.join("\n,\t"))) + "\n",
        json(&format!("[{}]", ITEMS.join(","))).replace("\"5\"", "\"5\",\"items\":[{}],\"more\":{\"items\":[7]}"),
    ];
    let slices: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
    let mut lists: Vec<_> = texts
        .into_iter()
        .map(|text| (Encoding::Json, text.into_bytes(), items.clone()))
        .collect();
    lists.push((Encoding::Protobuf, message("ServiceList", &slices), items));
    lists
}

#[test]
fn items_are_given_out_however_the_bytes_arrive_and_the_rest_is_a_page() {
    for (encoding, list, items) in lists() {
        let whole = split(encoding, [&list[..]]);
        assert_eq!(whole.0, items, "{}", String::from_utf8_lossy(&list));
        assert_eq!(all(encoding, whole.clone()), Some(items), "nothing is left in the page");
        for size in 1..40 {
            assert_eq!(split(encoding, list.chunks(size)), whole, "{size}");
        }
        for at in 0..list.len() {
            assert_eq!(split(encoding, [&list[..at], &list[at..]]), whole, "{at}");
        }
    }
}

#[test]
fn of_a_long_list_no_more_is_held_than_an_item_and_what_has_just_arrived() {
    const PIECE: usize = 16 << 10;
    let item = format!(r#"{{"metadata":{{"name":"{}"}}}}"#, "a".repeat(2_000));
    let text = json(&format!("[{}]", vec![item.as_str(); 5_000].join(",")));
    let message = message("ServiceList", &vec![item.as_bytes(); 5_000]);
    for (encoding, list) in [(Encoding::Json, text.as_bytes()), (Encoding::Protobuf, &message[..])] {
        let (mut splitter, mut items) = (Splitter::new(encoding, wanted()), 0);
        for piece in list.chunks(PIECE) {
            splitter.feed(piece).unwrap();
            assert!(splitter.buffer.capacity() < 4 * PIECE, "{}", splitter.buffer.capacity());
            while let Some(found) = splitter.find().unwrap() {
                assert_eq!(splitter.item(found), item.as_bytes());
                items += 1;
            }
        }
        // In protobuf, these lists have other fields between their items.
        let rest = splitter.end().unwrap().len();
        assert!(items == 5_000 && rest < 32 << 10, "{items} items, {rest} bytes");
    }
}

#[test]
fn a_list_that_is_cut_off_anywhere_is_no_page() {
    for (encoding, list, _) in lists() {
        // What comes after the end of the list is not missed.
        let text = String::from_utf8_lossy(&list);
        let needed = match encoding {
            Encoding::Json => text.trim_end().len(),
            Encoding::Protobuf => list.len() - 4,
        };
        for length in 0..needed {
            let cut = split(encoding, [&list[..length]]);
            assert_eq!(all(encoding, cut), None, "{length} of {text}");
        }
    }
}

#[test]
fn a_list_that_does_not_first_say_what_it_is_is_kept_whole() {
    let late = r#"{"items":[{},7],"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"5"}}"#;
    for text in [
        late.to_owned(),
        json("[{},7]").replace("ServiceList", "PodList"),
        json("[{},7]").replace("\"v1\"", "\"v2\""),
        json("[{},7]").replace("\"items\"", "\"\\u0069tems\""),
    ] {
        let (items, end) = split(Encoding::Json, text.as_bytes().chunks(3));
        assert_eq!((items, end), (Vec::new(), Ok(text.clone().into_bytes())), "{text}");
        let left = all(Encoding::Json, split(Encoding::Json, [text.as_bytes()]));
        assert_eq!(left, Some(vec![b"{}".to_vec(), b"7".to_vec()]));
    }
    let other = message("PodList", &[b"a"]);
    assert_eq!(split(Encoding::Protobuf, other.chunks(3)), (Vec::new(), Ok(other)));
}

#[test]
fn text_between_items_that_is_no_json_makes_the_page_none() {
    for items in [
        "[,]",
        "[{},]",
        "[{},,{}]",
        "[{} {}]",
        "[7 7]",
        "[,{}]",
        "[{}}",
        "[{}",
        "[{};{}]",
        "[}]",
        "[{}]]",
        "[\"a]",
        "{}]",
        "[{\"a\":\"b]",
        "[nul]",
        "[[}]",
        "[{]]",
        "[{},{]",
    ] {
        let text = json(items);
        let (given, end) = split(Encoding::Json, text.as_bytes().chunks(4));
        let valid = |item: &Vec<u8>| serde_json::from_slice::<serde_json::Value>(item).is_ok();
        let is_page =
            end.is_ok_and(|end| serde_json::from_slice::<Page<'_>>(&end).is_ok_and(|page| page.items.is_some()));
        let is_list =
            serde_json::from_slice::<Page<'_>>(text.as_bytes()).is_ok_and(|page| page.items.flatten().is_some());
        assert!(!is_list && (!is_page || !given.iter().all(valid)), "{items}: {given:?}");
    }
}

#[test]
fn fields_that_lie_make_the_page_none() {
    let good = message("ServiceList", &[b"abc", b"def"]);
    // A list inside that is longer or shorter than it says, and an item that is longer than its list.
    let at = good.windows(3).position(|bytes| bytes == b"abc").unwrap();
    let mut long = good.clone();
    long[at - 1] = 100;
    let mut group = good.clone();
    group[at - 2] = (2 << 3) | 3;
    for bad in [long, group] {
        for size in [1, 7, bad.len()] {
            assert_eq!(
                all(Encoding::Protobuf, split(Encoding::Protobuf, bad.chunks(size))),
                None
            );
        }
    }
    let twice = [&good[..], &good[4..]].concat();
    let problem = "a ServiceList with another one in its envelope".to_owned();
    let (_, end) = split(Encoding::Protobuf, [&twice[..]]);
    assert_eq!(end, Err(Failure::Garbage(problem)));
}

#[test]
fn an_object_longer_than_any_object_can_be_is_refused_before_it_has_arrived() {
    let mut huge = message("ServiceList", &[]);
    huge.truncate(huge.len() - 4);
    let (at, list) = (
        huge.len() - 6,
        [1 << 3 | 2, 3, 2 << 3 | 2, 1, b'5', 2 << 3 | 2, 0xff, 0xff, 0xff, 0x7f],
    );
    huge.truncate(at);
    huge.extend([0xff, 0xff, 0xff, 0xff, 0x7f]);
    huge.extend(list);
    let (_, end) = split(Encoding::Protobuf, [&huge[..]]);
    let failure = end.unwrap_err();
    assert!(
        matches!(&failure, Failure::Garbage(text) if text.ends_with("which is more than 16 MiB")),
        "{failure:?}"
    );
    let begun = json("[\"");
    let begun = begun.trim_end_matches('}').to_owned() + &"x".repeat(LONGEST_ITEM);
    let (_, end) = split(Encoding::Json, [begun.as_bytes()]);
    assert_eq!(end, Err(Failure::Garbage("an object longer than 16 MiB".to_owned())));
}

/// Text that is nearly a list.
fn text() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just(",".to_owned()),
        Just(":".to_owned()),
        Just("\"items\"".to_owned()),
        Just("\"\\\"".to_owned()),
        Just("7".to_owned()),
        Just("{}".to_owned()),
        Just(" ".to_owned()),
        Just(json("[{}]")),
    ];
    (vec(token, 0..12), any::<bool>()).prop_map(|(tokens, inside)| {
        let text = tokens.concat();
        if inside { json(&format!("[{text}]")) } else { text }
    })
}

proptest! {
    #[test]
    fn whatever_the_text_it_is_a_list_exactly_if_it_is_one_as_a_whole(text in text(), size in 1..9usize) {
        let whole = serde_json::from_slice::<Page<'_>>(text.as_bytes()).ok().map(|page| {
            let items = page.items.flatten().unwrap_or_default();
            items.iter().map(|item| item.get().as_bytes().to_vec()).collect::<Vec<_>>()
        });
        let found = all(Encoding::Json, split(Encoding::Json, text.as_bytes().chunks(size)));
        // An item that was given out must be JSON too. Whoever takes it checks that.
        let found = found.filter(|items| {
            items.iter().all(|item| serde_json::from_slice::<&serde_json::value::RawValue>(item).is_ok())
        });
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn whatever_the_bytes_their_pieces_make_no_difference(
        bytes in vec(any::<u8>(), 0..60), head in 0..60usize, size in 1..9usize,
    ) {
        let list = message("ServiceList", &[b"abc", b"def"]);
        let bytes = [&list[..head.min(list.len())], &bytes].concat();
        let whole = split(Encoding::Protobuf, [&bytes[..]]);
        let parts = split(Encoding::Protobuf, bytes.chunks(size));
        prop_assert_eq!(&whole, &parts);
        let wanted = wanted();
        let is_list = protobuf::list(&bytes, &wanted.kind, wanted.api_version).is_ok();
        prop_assert!(is_list || all(Encoding::Protobuf, whole).is_none());
    }
}
