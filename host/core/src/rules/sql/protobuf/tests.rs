//! Payloads are written as in the protocol: hex, and texts in quotes. What is expected was
//! compared with the JSON of Google's Python library.

use super::*;
use proptest::prelude::*;
use prost_reflect::DescriptorPool;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MessageOptions, OneofDescriptorProto,
};
use serde_json::json;

/// What `protoc` makes of this file, `person.proto`:
/// ```proto
/// syntax = "proto3";
/// package demo;
/// message Person {
///   string name = 1;
///   int64 serial = 2;
///   repeated Phone phones = 3;
///   message Phone { string number = 1; Kind kind = 2; }
///   enum Kind { MOBILE = 0; HOME = 1; }
/// }
/// ```
const PERSON: &str = "\
    0ae5010a0c706572736f6e2e70726f746f120464656d6f22c6010a06506572736f6e12120a046e616d651801200128\
    0952046e616d6512160a0673657269616c180220012803520673657269616c122a0a0670686f6e657318032003280b\
    32122e64656d6f2e506572736f6e2e50686f6e65520670686f6e65731a460a0550686f6e6512160a066e756d626572\
    18012001280952066e756d62657212250a046b696e6418022001280e32112e64656d6f2e506572736f6e2e4b696e64\
    52046b696e64221c0a044b696e64120a0a064d4f42494c45100012080a04484f4d451001620670726f746f33";

#[track_caller]
fn check(message: &str, rows: &[(&str, Option<serde_json::Value>)]) {
    let descriptor = Descriptor::parse(&set(), "all.proto", message).unwrap();
    for (payload, expected) in rows {
        assert_eq!(descriptor.decode(&hex(payload)), *expected, "{payload}");
    }
}

#[track_caller]
fn check_refused(set: &[u8], file: &str, message: &str, expected: &str) {
    let error = Descriptor::parse(set, file, message).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

/// `"0a 03 'abc'"`.
fn hex(text: &str) -> Vec<u8> {
    let byte = |at: &str| u8::from_str_radix(at, 16).unwrap();
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        match word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')) {
            Some(literal) => bytes.extend_from_slice(literal.as_bytes()),
            None => bytes.extend((0..word.len()).step_by(2).map(|at| byte(&word[at..at + 2]))),
        }
    }
    bytes
}

/// A field as in a .proto file: `repeated int32 name = 1`. Types that are not scalar start with a
/// dot, of enums with `enum.`, of groups with `group.`; `in 0` at the end names a oneof.
fn field(text: &str) -> FieldDescriptorProto {
    let (text, oneof) = match text.split_once(" in ") {
        Some((text, oneof)) => (text, Some(oneof.parse().unwrap())),
        None => (text, None),
    };
    let (text, number) = text.split_once(" = ").unwrap();
    let words: Vec<&str> = text.split(' ').collect();
    let [label, kind, name] = words[..] else {
        let optional = field(&format!("optional {text} = {number}"));
        return FieldDescriptorProto { oneof_index: oneof, ..optional };
    };
    let label = match label {
        "repeated" => Label::Repeated,
        "required" => Label::Required,
        _ => Label::Optional,
    };
    let scalar = Type::from_str_name(&format!("TYPE_{}", kind.to_uppercase()));
    let (scalar, type_name) = match (scalar, kind.split_once('.')) {
        (Some(scalar), _) => (scalar, None),
        (None, Some(("enum", name))) => (Type::Enum, Some(format!(".{name}"))),
        (None, Some(("group", name))) => (Type::Group, Some(format!(".{name}"))),
        _ => (Type::Message, Some(kind.to_owned())),
    };
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number.parse().unwrap()),
        label: Some(label.into()),
        r#type: Some(scalar.into()),
        type_name,
        oneof_index: oneof,
        ..Default::default()
    }
}

fn message(name: &str, fields: &[&str]) -> DescriptorProto {
    DescriptorProto {
        name: Some(name.to_owned()),
        field: fields.iter().map(|text| field(text)).collect(),
        ..Default::default()
    }
}

fn map_entry(name: &str, key: &str, value: &str) -> DescriptorProto {
    let fields = [format!("{key} key = 1"), format!("{value} value = 2")];
    DescriptorProto {
        options: Some(MessageOptions { map_entry: Some(true), ..Default::default() }),
        ..message(name, &[&fields[0], &fields[1]])
    }
}

fn file(name: &str, syntax: &str, messages: Vec<DescriptorProto>) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name.to_owned()),
        package: Some("t".to_owned()),
        syntax: Some(syntax.to_owned()),
        message_type: messages,
        ..Default::default()
    }
}

fn colors() -> EnumDescriptorProto {
    let value = |(number, name): (i32, &str)| EnumValueDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        ..Default::default()
    };
    EnumDescriptorProto {
        name: Some("Color".to_owned()),
        value: [(0, "NONE"), (1, "RED")].map(value).to_vec(),
        ..Default::default()
    }
}

fn numbers() -> DescriptorProto {
    let kinds = [
        "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32",
        "sfixed64", "float", "double", "bool", "string", "bytes",
    ];
    let fields: Vec<String> =
        kinds.iter().zip(1..).map(|(kind, number)| format!("{kind} a_{kind} = {number}")).collect();
    message("Numbers", &fields.iter().map(String::as_str).collect::<Vec<_>>())
}

fn shapes() -> DescriptorProto {
    let mut shapes = message(
        "Shapes",
        &[
            "repeated int32 ints = 1",
            "repeated .t.Node nodes = 2",
            "repeated .t.Shapes.CountsEntry counts = 3",
            "repeated .t.Shapes.ByNumberEntry by_number = 4",
            "enum.t.Color color = 5",
            "repeated enum.t.Color colors = 6",
            "string left = 7 in 0",
            "int64 right = 8 in 0",
            "int32 maybe = 9 in 1",
            "repeated string texts = 10",
        ],
    );
    shapes.field[8].proto3_optional = Some(true);
    shapes.nested_type = vec![
        map_entry("CountsEntry", "string", "int64"),
        map_entry("ByNumberEntry", "int32", ".t.Node"),
    ];
    shapes.oneof_decl = ["choice", "_maybe"]
        .map(|name| OneofDescriptorProto { name: Some(name.to_owned()), options: None })
        .to_vec();
    shapes
}

fn well_known() -> DescriptorProto {
    let names = [
        "Timestamp",
        "Duration",
        "Struct",
        "Value",
        "ListValue",
        "Any",
        "FieldMask",
        "Empty",
        "Int64Value",
        "UInt32Value",
        "DoubleValue",
        "FloatValue",
        "BoolValue",
        "StringValue",
        "BytesValue",
    ];
    let fields = names.iter().zip(1..);
    let fields: Vec<String> = fields
        .map(|(name, number)| format!(".google.protobuf.{name} {} = {number}", name.to_lowercase()))
        .collect();
    message("WellKnown", &fields.iter().map(String::as_str).collect::<Vec<_>>())
}

fn set() -> Vec<u8> {
    let google = ["timestamp", "duration", "struct", "any", "field_mask", "empty", "wrappers"]
        .map(|name| format!("google/protobuf/{name}.proto"));
    let node =
        message("Node", &["string name = 1", ".t.Node child = 2", ".google.protobuf.Any any = 3"]);
    let mut all = file("all.proto", "proto3", vec![numbers(), shapes(), well_known(), node]);
    all.enum_type = vec![colors()];
    all.dependency = google.to_vec();
    let mut old = message(
        "Old",
        &[
            "required int32 id = 1",
            "string name = 2",
            "repeated group.t.Old.Part part = 3",
            "repeated int32 loose = 4",
        ],
    );
    old.field[1].default_value = Some("x".to_owned());
    old.nested_type = vec![message("Part", &["int32 size = 4"])];
    let old = file("dir/old.proto", "proto2", vec![old, message("Holder", &[".t.Old old = 1"])]);
    let of_google = google.iter().map(|name| {
        DescriptorPool::global().get_file_by_name(name).unwrap().file_descriptor_proto().clone()
    });
    FileDescriptorSet { file: of_google.chain([all, old]).collect() }.encode_to_vec()
}

#[test]
fn what_protoc_made_describes_a_payload() {
    let set = hex(PERSON);
    let payload = hex("0a 03 'Ada' 10 9601 1a 06 0a 04 '0123' 1a 05 0a 01 '7' 10 01");
    let expected = json!({
        "name": "Ada",
        "serial": "150",
        "phones": [{"number": "0123"}, {"number": "7", "kind": "HOME"}],
    });
    for (file, message) in
        [("person.proto", "demo.Person"), ("person", "Person"), ("person.proto", "Person")]
    {
        let descriptor = Descriptor::parse(&set, file, message).unwrap();
        assert_eq!(descriptor.decode(&payload), Some(expected.clone()));
    }
    let phone = Descriptor::parse(&set, "person", "Person.Phone").unwrap();
    assert_eq!(phone.decode(&hex("10 00")), Some(json!({})));
}

#[test]
fn a_descriptor_that_does_not_describe_is_refused() {
    let person = hex(PERSON);
    check_refused(
        &person,
        "human.proto",
        "Person",
        "the descriptor set has no file \"human.proto\"",
    );
    check_refused(
        &person,
        "person.proto",
        "Human",
        "the file \"person.proto\" has no message \"Human\"",
    );
    check_refused(
        &person,
        "person.proto",
        "demo.Person.Kind",
        "the file \"person.proto\" has no message \"demo.Person.Kind\"",
    );
    // Of another file, and the entry of a map.
    check_refused(&set(), "old", "Node", "the file \"old\" has no message \"Node\"");
    check_refused(
        &set(),
        "all",
        "Shapes.CountsEntry",
        "the file \"all\" has no message \"Shapes.CountsEntry\"",
    );
    check_refused(b"syntax = \"proto3\";", "a", "A", "not a file descriptor set");
    check_refused(
        &vec![0; 262_145],
        "a",
        "A",
        "the descriptor set has 262145 bytes; at most 262144",
    );
    let incomplete = file("a.proto", "proto3", vec![message("A", &[".t.B b = 1"])]);
    let incomplete = FileDescriptorSet { file: vec![incomplete] }.encode_to_vec();
    check_refused(&incomplete, "a", "A", "the descriptor set lacks the type \".t.B\"");
    let editions = file("a.proto", "editions", vec![message("A", &[])]);
    let editions = FileDescriptorSet { file: vec![editions] }.encode_to_vec();
    check_refused(
        &editions,
        "a",
        "A",
        "the file \"a.proto\" has the syntax \"editions\", not proto2 or proto3",
    );
}

#[test]
fn a_file_is_found_without_folder_and_ending() {
    for name in ["dir/old.proto", "dir/old", "old.proto", "old"] {
        Descriptor::parse(&set(), name, "Old").unwrap();
    }
}

#[test]
fn scalars_are_json_and_64_bits_are_strings() {
    check(
        "Numbers",
        &[
            ("", Some(json!({}))),
            // Defaults are not written, even when the payload has them.
            ("08 00 10 00 5d 00000000 61 0000000000000000 68 00", Some(json!({}))),
            ("08 00 10 00 72 00", Some(json!({}))),
            (
                "08 ffffffffffffffffff01 10 80808080808080808001",
                Some(json!({"aInt32": -1, "aInt64": "-9223372036854775808"})),
            ),
            (
                "18 ffffffff0f 20 ffffffffffffffffff01",
                Some(json!({"aUint32": 4_294_967_295_u32, "aUint64": "18446744073709551615"})),
            ),
            ("28 ffffffff0f 30 03", Some(json!({"aSint32": i32::MIN, "aSint64": "-2"}))),
            (
                "3d 07000000 41 0000000000000080",
                Some(json!({"aFixed32": 7, "aFixed64": "9223372036854775808"})),
            ),
            ("4d f7ffffff 51 f6ffffffffffffff", Some(json!({"aSfixed32": -9, "aSfixed64": "-10"}))),
            ("5d cdcccc3d 61 9a9999999999b93f", Some(json!({"aFloat": 0.1, "aDouble": 0.1}))),
            (
                "5d 0000c07f 61 000000000000f0ff",
                Some(json!({"aFloat": "NaN", "aDouble": "-Infinity"})),
            ),
            ("5d 0000807f", Some(json!({"aFloat": "Infinity"}))),
            (
                "68 01 72 02 c3a9 7a 03 00fffe",
                Some(json!({"aBool": true, "aString": "é", "aBytes": "AP/+"})),
            ),
            // The last one counts.
            ("08 01 08 02", Some(json!({"aInt32": 2}))),
        ],
    );
}

#[test]
fn what_is_not_of_the_message_is_none() {
    check(
        "Numbers",
        &[
            ("08", None),
            ("08 ffffffffffffffffffff01", None),
            ("0a 01 00 5d 00", None),
            // A string that is not UTF-8, groups without an end or with another's, number 0, a
            // wire type that there is not.
            ("72 01 ff", None),
            ("fb07", None),
            ("ab06 b406", None),
            ("ac06", None),
            ("00", None),
            ("0e 00", None),
            ("a2 06 05 'ab'", None),
        ],
    );
}

#[test]
fn unknown_fields_are_left_out() {
    check(
        "Numbers",
        &[
            ("a006 05 aa06 02 'ab' ab06 08 01 ac06 08 07", Some(json!({"aInt32": 7}))),
            ("ab06 ab06 ac06 ac06", Some(json!({}))),
            // Of another wire type than declared.
            ("09 0000000000000000 0a 01 05 0d 00000000 70 05", Some(json!({}))),
        ],
    );
}

#[test]
fn lists_maps_enums_and_oneofs_have_their_json() {
    check(
        "Shapes",
        &[
            // Packed, unpacked and both.
            ("0a 0c 01 02 fdffffffffffffffff01", Some(json!({"ints": [1, 2, -3]}))),
            ("08 01 08 02 0a 01 03", Some(json!({"ints": [1, 2, 3]}))),
            ("12 00 12 03 0a 01 'q'", Some(json!({"nodes": [{}, {"name": "q"}]}))),
            ("1a 05 0a 01 'x' 10 05 1a 00", Some(json!({"counts": {"": "0", "x": "5"}}))),
            (
                "22 10 08 ffffffffffffffffff01 12 03 0a 01 'n'",
                Some(json!({"byNumber": {"-1": {"name": "n"}}})),
            ),
            ("28 01", Some(json!({"color": "RED"}))),
            ("28 07 32 03 00 01 09", Some(json!({"color": 7, "colors": ["NONE", "RED", 9]}))),
            ("3a 00", Some(json!({"left": ""}))),
            ("3a 01 'a' 40 00", Some(json!({"right": "0"}))),
            ("40 01 3a 01 'a' 40 02", Some(json!({"right": "2"}))),
            ("48 00", Some(json!({"maybe": 0}))),
            // Of a key the last value counts, also when it is the default.
            ("1a 05 0a 01 'x' 10 05 1a 03 0a 01 'x'", Some(json!({"counts": {"x": "0"}}))),
            ("22 00", Some(json!({"byNumber": {"0": {}}}))),
            ("0a 00", Some(json!({}))),
            ("0a 01 ff", None),
            ("52 01 'a' 52 00", Some(json!({"texts": ["a", ""]}))),
        ],
    );
}

#[test]
fn well_known_types_have_their_own_json() {
    check(
        "WellKnown",
        &[
            ("0a 00", Some(json!({"timestamp": "1970-01-01T00:00:00Z"}))),
            (
                "0a 0a 08 b4e78b1e 10 c0de810a",
                Some(json!({"timestamp": "1972-01-01T10:00:20.021Z"})),
            ),
            (
                "0a 07 08 b4e78b1e 10 15",
                Some(json!({"timestamp": "1972-01-01T10:00:20.000000021Z"})),
            ),
            ("0a 0b 08 8092b8c398feffffff01", Some(json!({"timestamp": "0001-01-01T00:00:00Z"}))),
            (
                "0a 0d 08 ff82d1ffaf07 10 ff93ebdc03",
                Some(json!({"timestamp": "9999-12-31T23:59:59.999999999Z"})),
            ),
            ("0a 07 08 8083d1ffaf07", None),
            ("0a 0b 10 ffffffffffffffffff01", None),
            ("12 06 08 01 10 ace014", Some(json!({"duration": "1.000340012s"}))),
            ("12 05 08 03 10 e807", Some(json!({"duration": "3.000001s"}))),
            ("12 0b 10 80b6ca91feffffffff01", Some(json!({"duration": "-0.500s"}))),
            ("12 0d 08 03 10 ffffffffffffffffff01", None),
            ("12 07 08 81bcaece9709", None),
            ("1a 00", Some(json!({"struct": {}}))),
            (
                "1a 0e 0a 0c 0a 01 'a' 12 07 32 05 0a 03 1a 01 'x'",
                Some(json!({"struct": {"a": ["x"]}})),
            ),
            ("1a 09 0a 07 0a 01 'a' 12 02 20 01", Some(json!({"struct": {"a": true}}))),
            ("22 00", Some(json!({"value": null}))),
            ("22 02 08 00", Some(json!({"value": null}))),
            ("22 09 11 000000000000f03f", Some(json!({"value": 1.0}))),
            ("22 09 11 000000000000f87f", None),
            ("2a 06 0a 04 32 02 0a 00", Some(json!({"listvalue": [[null]]}))),
            ("32 00", Some(json!({"any": {}}))),
            ("3a 0c 0a 07 'a_b.c_d' 0a 01 'e'", Some(json!({"fieldmask": "aB.cD,e"}))),
            ("42 00", Some(json!({"empty": {}}))),
            ("4a 02 08 05 52 02 08 05", Some(json!({"int64value": "5", "uint32value": 5}))),
            (
                "5a 00 62 00 6a 00 72 00 7a 00",
                Some(json!({
                    "doublevalue": 0.0,
                    "floatvalue": 0.0,
                    "boolvalue": false,
                    "stringvalue": "",
                    "bytesvalue": "",
                })),
            ),
        ],
    );
}

#[test]
fn an_any_is_its_message_when_the_set_has_it() {
    check(
        "Node",
        &[
            (
                "1a 0f 0a 08 'x/t.Node' 12 03 0a 01 'z'",
                Some(json!({"any": {"@type": "x/t.Node", "name": "z"}})),
            ),
            (
                "1a 20 0a 1a 'x/google.protobuf.Duration' 12 02 08 01",
                Some(json!({"any": {"@type": "x/google.protobuf.Duration", "value": "1s"}})),
            ),
            ("1a 0a 0a 08 'x/t.Nope'", None),
            ("1a 08 0a 06 't.Node'", None),
            ("1a 0d 0a 08 'x/t.Node' 12 01 0a", None),
        ],
    );
}

#[test]
fn parts_of_a_message_are_one_message() {
    check(
        "Node",
        &[
            ("12 03 0a 01 'a' 12 02 12 00", Some(json!({"child": {"name": "a", "child": {}}}))),
            (
                "12 05 12 03 0a 01 'a' 12 05 12 03 0a 01 'b'",
                Some(json!({"child": {"child": {"name": "b"}}})),
            ),
        ],
    );
}

#[test]
fn enums_of_proto2_know_their_numbers_only() {
    let fields = ["enum.t.Color one = 1", "repeated enum.t.Color many = 2"];
    let mut closed = file("a.proto", "proto2", vec![message("A", &fields)]);
    closed.enum_type = vec![colors()];
    let closed = FileDescriptorSet { file: vec![closed] }.encode_to_vec();
    let closed = Descriptor::parse(&closed, "a", "A").unwrap();
    let expected = json!({"one": "NONE", "many": ["RED", "NONE"]});
    assert_eq!(closed.decode(&hex("08 00 08 07 10 01 10 07 12 02 07 00")), Some(expected));
}

#[test]
fn proto2_needs_required_fields_and_knows_groups() {
    let old = Descriptor::parse(&set(), "old", "Old").unwrap();
    assert_eq!(old.decode(b""), None);
    assert_eq!(old.decode(&hex("08 00")), Some(json!({"id": 0})));
    let payload = hex("08 01 12 00 1b 20 03 1c 1b 1c 20 03 22 01 04");
    let expected = json!({"id": 1, "name": "", "part": [{"size": 3}, {}], "loose": [3, 4]});
    assert_eq!(old.decode(&payload), Some(expected));
    let holder = Descriptor::parse(&set(), "old", "Holder").unwrap();
    assert_eq!(holder.decode(&hex("0a 00")), None);
}

/// A message around the payload: its tag, its length, the payload.
fn wrapped(tag: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    prost_reflect::prost::encoding::encode_varint(payload.len() as u64, &mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn depth_is_bounded() {
    let node = Descriptor::parse(&set(), "all", "Node").unwrap();
    let nested = |levels: usize| (1..levels).fold(Vec::new(), |inner, _| wrapped(0x12, &inner));
    assert!(node.decode(&nested(JSON_DEPTH_MAX)).is_some());
    assert_eq!(node.decode(&nested(JSON_DEPTH_MAX + 1)), None);
    assert_eq!(node.decode(&nested(10_000)), None);
    let any = |inner: Vec<u8>| {
        let mut bytes = wrapped(0x0a, b"x/google.protobuf.Any");
        bytes.extend(wrapped(0x12, &inner));
        bytes
    };
    let anys = |levels: usize| wrapped(0x1a, &(0..levels).fold(Vec::new(), |it, _| any(it)));
    assert!(node.decode(&anys(60)).is_some());
    assert_eq!(node.decode(&anys(65)), None);
    assert_eq!(node.decode(&anys(3_000)), None);
}

#[test]
fn size_is_bounded() {
    let shapes = Descriptor::parse(&set(), "all", "Shapes").unwrap();
    let most = wrapped(0x0a, &vec![1; PAYLOAD_BYTES_MAX - 4]);
    let ints = shapes.decode(&most).unwrap();
    assert_eq!(ints["ints"].as_array().unwrap().len(), PAYLOAD_BYTES_MAX - 4);
    assert_eq!(shapes.decode(&wrapped(0x0a, &vec![1; PAYLOAD_BYTES_MAX])), None);
    // A name of 1 KiB for every byte.
    let mut an_enum = colors();
    an_enum.value[1].name = Some("R".repeat(1_024));
    let mut long = file("a.proto", "proto3", vec![message("A", &["repeated enum.t.Color c = 1"])]);
    long.enum_type = vec![an_enum];
    let long = FileDescriptorSet { file: vec![long] }.encode_to_vec();
    let long = Descriptor::parse(&long, "a", "A").unwrap();
    assert!(long.decode(&wrapped(0x0a, &[1; 1_000])).is_some());
    assert_eq!(long.decode(&most), None);
}

#[test]
fn types_that_only_have_a_name_of_google_are_messages_like_others() {
    for (name, fields) in [
        ("Struct", &[".google.protobuf.Struct a = 1"][..]),
        ("ListValue", &[".google.protobuf.ListValue a = 1"]),
        ("Value", &[".google.protobuf.Value a = 1 in 0"]),
        ("Int64Value", &[".google.protobuf.Int64Value a = 1"]),
        ("Any", &[".google.protobuf.Any a = 1"]),
        ("FieldMask", &[".google.protobuf.FieldMask a = 1"]),
        ("Timestamp", &[".google.protobuf.Timestamp a = 1"]),
    ] {
        let mut own = file("a.proto", "proto3", vec![message(name, fields)]);
        own.package = Some("google.protobuf".to_owned());
        let own = FileDescriptorSet { file: vec![own] }.encode_to_vec();
        let own = Descriptor::parse(&own, "a", name).unwrap();
        assert_eq!(own.decode(&hex("0a 02 0a 00")), Some(json!({"a": {"a": {}}})), "{name}");
        let deep = (0..10_000).fold(Vec::new(), |inner, _| wrapped(0x0a, &inner));
        assert_eq!(own.decode(&deep), None, "{name}");
    }
}

proptest! {
    #[test]
    fn no_payload_panics(
        payload in prop::collection::vec(any::<u8>(), 0..64),
        message in prop::sample::select(&["Numbers", "Shapes", "WellKnown", "Node"][..]),
    ) {
        let _ = Descriptor::parse(&set(), "all", message).unwrap().decode(&payload);
    }

    #[test]
    fn no_descriptor_set_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut changed = set();
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        if let Ok(descriptor) = Descriptor::parse(&changed, "all", "WellKnown") {
            let _ = descriptor.decode(&hex("0a 00 12 00 1a 00 22 00 2a 00 32 00 3a 00 4a 00"));
        }
    }
}
