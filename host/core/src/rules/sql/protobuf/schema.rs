//! The types of a file descriptor set.
//!
//! Only messages and enums matter: services, extensions and options are skipped, but for the one
//! that makes a message the entry of a map.
//!
//! Source: `google/protobuf/descriptor.proto`; the numbers here are those of its fields.

use super::DescriptorError;
use super::wire::{Malformed, Reader, Wire};
use std::collections::HashMap;

/// Deepest message declared in a message; reading a set recurses as deep.
const DECLARED_DEPTH_MAX: usize = 32;

#[derive(Debug, Default)]
pub struct Schema {
    pub messages: Vec<MessageType>,
    pub enums: Vec<EnumType>,
    by_name: HashMap<String, TypeId>,
    files: Vec<File>,
}

#[derive(Debug, Default)]
struct File {
    name: String,
    package: String,
    syntax: String,
}

#[derive(Clone, Copy, Debug)]
enum TypeId {
    Message(usize),
    Enum(usize),
}

#[derive(Debug)]
pub struct MessageType {
    /// With its package and the messages around it.
    pub name: String,
    pub fields: HashMap<u32, FieldType>,
    /// `proto2`.
    pub required: Vec<u32>,
    /// The entry of a map: its key is field 1, its value field 2.
    pub is_map_entry: bool,
    pub form: Form,
    file: usize,
}

/// How JSON writes a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    Plain,
    // Google's types, with the fields that Google declares.
    Any,
    Timestamp,
    Duration,
    FieldMask,
    Struct,
    ListValue,
    Value,
    Wrapper,
}

#[derive(Debug)]
pub struct FieldType {
    pub json_name: String,
    pub kind: Kind,
    pub is_repeated: bool,
    /// Whether being absent and having the default value differ.
    pub has_presence: bool,
    pub oneof: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Double,
    Float,
    Int64,
    Uint64,
    Int32,
    Fixed64,
    Fixed32,
    Bool,
    String,
    Group(usize),
    Message(usize),
    Bytes,
    Uint32,
    Enum(usize),
    Sfixed32,
    Sfixed64,
    Sint32,
    Sint64,
}

#[derive(Debug)]
pub struct EnumType {
    pub values: HashMap<i32, String>,
    /// `proto2`: other numbers are as if the field were unknown.
    pub is_closed: bool,
    /// Of JSON's null.
    pub is_null: bool,
}

impl Schema {
    pub fn parse(set: &[u8]) -> Result<Self, DescriptorError> {
        let mut schema = Self::default();
        let mut pending = Vec::new();
        let mut reader = Reader(set);
        while let Some(field) = reader.field().map_err(DescriptorError::Malformed)? {
            if let (1, Wire::Bytes(file)) = field {
                schema.file(file, &mut pending).map_err(DescriptorError::Malformed)?;
            }
        }
        if let Some(file) = schema.files.iter().find(|file| !is_understood(&file.syntax)) {
            let (file, syntax) = (file.name.clone(), file.syntax.clone());
            return Err(DescriptorError::UnknownSyntax { file, syntax });
        }
        for field in pending {
            schema.add_field(field)?;
        }
        for at in 0..schema.messages.len() {
            // A number that is declared twice would be looked for twice in every message.
            schema.messages[at].required.sort_unstable();
            schema.messages[at].required.dedup();
            schema.messages[at].form = schema.form(&schema.messages[at]);
        }
        Ok(schema)
    }

    /// The message of this file.
    pub fn find(&self, file: &str, message: &str) -> Result<usize, DescriptorError> {
        let Some(at) = self.find_file(file) else {
            return Err(DescriptorError::NoFile { file: file.to_owned() });
        };
        let in_package = joined(&self.files[at].package, message);
        let mut found = [message, &in_package].into_iter().filter_map(|name| self.message(name));
        let is_of_file = |it: &usize| {
            let message = &self.messages[*it];
            message.file == at && !message.is_map_entry
        };
        found.find(is_of_file).ok_or_else(|| DescriptorError::NoMessage {
            file: file.to_owned(),
            message: message.to_owned(),
        })
    }

    /// The message with this full name.
    pub fn message(&self, name: &str) -> Option<usize> {
        match self.by_name.get(name)? {
            TypeId::Message(at) => Some(*at),
            TypeId::Enum(_) => None,
        }
    }

    fn find_file(&self, name: &str) -> Option<usize> {
        let bare = |name: &str| name.strip_suffix(".proto").unwrap_or(name).to_owned();
        let base = |name: &str| bare(name.rsplit('/').next().unwrap_or(name));
        let of =
            |matches: &dyn Fn(&str) -> bool| self.files.iter().position(|file| matches(&file.name));
        of(&|it| it == name)
            .or_else(|| of(&|it| bare(it) == bare(name)))
            .or_else(|| of(&|it| base(it) == bare(name)))
    }

    /// `FileDescriptorProto`. Fields wait in `pending` until all types are known.
    fn file(&mut self, bytes: &[u8], pending: &mut Vec<Pending>) -> Result<(), Malformed> {
        let mut file = File::default();
        // The package may stand behind the messages.
        let (mut messages, mut enums) = (Vec::new(), Vec::new());
        let mut reader = Reader(bytes);
        while let Some(field) = reader.field()? {
            match field {
                (1, Wire::Bytes(name)) => file.name = text(name)?,
                (2, Wire::Bytes(package)) => file.package = text(package)?,
                (4, Wire::Bytes(message)) => messages.push(message),
                (5, Wire::Bytes(an_enum)) => enums.push(an_enum),
                (12, Wire::Bytes(syntax)) => file.syntax = text(syntax)?,
                _ => {}
            }
        }
        let scope = file.package.clone();
        self.files.push(file);
        for an_enum in enums {
            self.add_enum(an_enum, &scope)?;
        }
        messages
            .into_iter()
            .try_for_each(|message| self.add_message(message, &scope, pending, DECLARED_DEPTH_MAX))
    }

    /// `DescriptorProto`.
    fn add_message(
        &mut self,
        bytes: &[u8],
        scope: &str,
        pending: &mut Vec<Pending>,
        depth: usize,
    ) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        let (mut name, mut is_map_entry) = (String::new(), false);
        let (mut messages, mut enums) = (Vec::new(), Vec::new());
        let at = self.messages.len();
        let mut reader = Reader(bytes);
        while let Some(field) = reader.field()? {
            match field {
                (1, Wire::Bytes(bytes)) => name = text(bytes)?,
                (2, Wire::Bytes(field)) => pending.push(Pending::parse(field, at)?),
                (3, Wire::Bytes(message)) => messages.push(message),
                (4, Wire::Bytes(an_enum)) => enums.push(an_enum),
                (7, Wire::Bytes(options)) => is_map_entry = map_entry(options)?,
                _ => {}
            }
        }
        let name = joined(scope, &name);
        self.by_name.insert(name.clone(), TypeId::Message(at));
        self.messages.push(MessageType {
            name: name.clone(),
            fields: HashMap::new(),
            required: Vec::new(),
            is_map_entry,
            form: Form::Plain,
            file: self.files.len() - 1,
        });
        for an_enum in enums {
            self.add_enum(an_enum, &name)?;
        }
        messages
            .into_iter()
            .try_for_each(|message| self.add_message(message, &name, pending, depth))
    }

    /// `EnumDescriptorProto`.
    fn add_enum(&mut self, bytes: &[u8], scope: &str) -> Result<(), Malformed> {
        let (mut name, mut values) = (String::new(), HashMap::new());
        let mut reader = Reader(bytes);
        while let Some(field) = reader.field()? {
            match field {
                (1, Wire::Bytes(bytes)) => name = text(bytes)?,
                (2, Wire::Bytes(value)) => {
                    let (name, number) = enum_value(value)?;
                    // Of names for the same number the first one is written.
                    values.entry(number).or_insert(name);
                }
                _ => {}
            }
        }
        let name = joined(scope, &name);
        let is_closed = self.files.last().is_some_and(|file| is_proto2(&file.syntax));
        let is_null = name == "google.protobuf.NullValue";
        self.by_name.insert(name, TypeId::Enum(self.enums.len()));
        self.enums.push(EnumType { values, is_closed, is_null });
        Ok(())
    }

    fn add_field(&mut self, field: Pending) -> Result<(), DescriptorError> {
        let malformed = DescriptorError::Malformed(Malformed);
        let found = match &field.type_name {
            None => None,
            // protoc writes names in full, with a dot in front.
            Some(name) => {
                let found = name.strip_prefix('.').and_then(|name| self.by_name.get(name));
                Some(*found.ok_or_else(|| DescriptorError::NoType { name: name.clone() })?)
            }
        };
        let Some(kind) = kind(field.kind, found) else { return Err(malformed) };
        let Some(message) = self.messages.get_mut(field.message) else { return Err(malformed) };
        let file = &self.files[message.file];
        let is_message = matches!(kind, Kind::Message(_) | Kind::Group(_));
        let is_repeated = field.label == LABEL_REPEATED;
        let has_presence =
            !is_repeated && (is_proto2(&file.syntax) || is_message || field.oneof.is_some());
        if field.label == LABEL_REQUIRED {
            message.required.push(field.number);
        }
        let json_name = field.json_name.unwrap_or_else(|| lower_camel_case(&field.name));
        let oneof = field.oneof;
        let field_type = FieldType { json_name, kind, is_repeated, has_presence, oneof };
        message.fields.insert(field.number, field_type);
        Ok(())
    }

    /// Only a message with the fields that Google declares can be written in Google's form.
    fn form(&self, message: &MessageType) -> Form {
        let Some(name) = message.name.strip_prefix("google.protobuf.") else { return Form::Plain };
        let one = |number: u32, kind: Kind| {
            message.fields.get(&number).is_some_and(|it| it.kind == kind && !it.is_repeated)
        };
        let repeated = message.fields.get(&1).filter(|field| field.is_repeated);
        let of_messages = repeated.and_then(|field| match field.kind {
            Kind::Message(at) => self.messages.get(at),
            _ => None,
        });
        let whole = one(1, Kind::Int64) && one(2, Kind::Int32);
        match name {
            "Any" if one(1, Kind::String) && one(2, Kind::Bytes) => Form::Any,
            "Timestamp" if whole => Form::Timestamp,
            "Duration" if whole => Form::Duration,
            "FieldMask" if repeated.is_some_and(|it| it.kind == Kind::String) => Form::FieldMask,
            "Struct" if of_messages.is_some_and(|it| it.is_map_entry) => Form::Struct,
            "ListValue" if of_messages.is_some_and(|it| !it.is_map_entry) => Form::ListValue,
            // One that held itself would have no end: it opens no level of JSON.
            "Value" if message.fields.values().all(|field| self.is_of_value(field)) => Form::Value,
            "DoubleValue" if one(1, Kind::Double) => Form::Wrapper,
            "FloatValue" if one(1, Kind::Float) => Form::Wrapper,
            "Int64Value" if one(1, Kind::Int64) => Form::Wrapper,
            "UInt64Value" if one(1, Kind::Uint64) => Form::Wrapper,
            "Int32Value" if one(1, Kind::Int32) => Form::Wrapper,
            "UInt32Value" if one(1, Kind::Uint32) => Form::Wrapper,
            "BoolValue" if one(1, Kind::Bool) => Form::Wrapper,
            "StringValue" if one(1, Kind::String) => Form::Wrapper,
            "BytesValue" if one(1, Kind::Bytes) => Form::Wrapper,
            _ => Form::Plain,
        }
    }

    /// Whether it may be a field of Google's `Value`.
    fn is_of_value(&self, field: &FieldType) -> bool {
        let opens_level = match field.kind {
            Kind::Message(at) => self.messages.get(at).is_some_and(|message| {
                matches!(
                    message.name.as_str(),
                    "google.protobuf.Struct" | "google.protobuf.ListValue"
                )
            }),
            Kind::Group(_) => false,
            _ => true,
        };
        opens_level && !field.is_repeated && field.oneof.is_some()
    }
}

const LABEL_REQUIRED: u64 = 2;

const LABEL_REPEATED: u64 = 3;

/// `FieldDescriptorProto`.
#[derive(Default)]
struct Pending {
    /// Whose field it is.
    message: usize,
    name: String,
    number: u32,
    label: u64,
    kind: u64,
    type_name: Option<String>,
    oneof: Option<u64>,
    json_name: Option<String>,
}

impl Pending {
    fn parse(bytes: &[u8], message: usize) -> Result<Self, Malformed> {
        let mut pending = Self { message, ..Self::default() };
        let mut reader = Reader(bytes);
        while let Some(field) = reader.field()? {
            match field {
                (1, Wire::Bytes(name)) => pending.name = text(name)?,
                (3, Wire::Varint(number)) => {
                    pending.number = u32::try_from(number).map_err(|_| Malformed)?;
                }
                (4, Wire::Varint(label)) => pending.label = label,
                (5, Wire::Varint(kind)) => pending.kind = kind,
                (6, Wire::Bytes(name)) => pending.type_name = Some(text(name)?),
                // A field of proto3 that is `optional` has a oneof of its own.
                (9, Wire::Varint(oneof)) => pending.oneof = Some(oneof),
                (10, Wire::Bytes(name)) => pending.json_name = Some(text(name)?),
                _ => {}
            }
        }
        Ok(pending)
    }
}

/// `FieldDescriptorProto.Type`; `None` where it and what the name stands for differ.
fn kind(number: u64, found: Option<TypeId>) -> Option<Kind> {
    Some(match (number, found) {
        (1, None) => Kind::Double,
        (2, None) => Kind::Float,
        (3, None) => Kind::Int64,
        (4, None) => Kind::Uint64,
        (5, None) => Kind::Int32,
        (6, None) => Kind::Fixed64,
        (7, None) => Kind::Fixed32,
        (8, None) => Kind::Bool,
        (9, None) => Kind::String,
        (10, Some(TypeId::Message(at))) => Kind::Group(at),
        (11, Some(TypeId::Message(at))) => Kind::Message(at),
        (12, None) => Kind::Bytes,
        (13, None) => Kind::Uint32,
        (14, Some(TypeId::Enum(at))) => Kind::Enum(at),
        (15, None) => Kind::Sfixed32,
        (16, None) => Kind::Sfixed64,
        (17, None) => Kind::Sint32,
        (18, None) => Kind::Sint64,
        _ => return None,
    })
}

/// `EnumValueDescriptorProto`.
fn enum_value(bytes: &[u8]) -> Result<(String, i32), Malformed> {
    let (mut name, mut number) = (String::new(), 0);
    let mut reader = Reader(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Wire::Bytes(bytes)) => name = text(bytes)?,
            (2, Wire::Varint(varint)) => number = low_32(varint).cast_signed(),
            _ => {}
        }
    }
    Ok((name, number))
}

/// `MessageOptions.map_entry`.
fn map_entry(options: &[u8]) -> Result<bool, Malformed> {
    let mut is_map_entry = false;
    let mut reader = Reader(options);
    while let Some(field) = reader.field()? {
        if let (7, Wire::Varint(value)) = field {
            is_map_entry = value != 0;
        }
    }
    Ok(is_map_entry)
}

/// 32-bit numbers may be written with 64 bits; the upper ones do not count.
#[allow(clippy::cast_possible_truncation, reason = "masked")]
pub fn low_32(varint: u64) -> u32 {
    (varint & 0xffff_ffff) as u32
}

/// `a_b` is `aB`.
pub fn lower_camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for char in name.chars() {
        if char == '_' {
            upper = true;
        } else {
            out.push(if upper { char.to_ascii_uppercase() } else { char });
            upper = false;
        }
    }
    out
}

fn joined(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed)
}

/// Files of proto2 do not say what they are.
fn is_proto2(syntax: &str) -> bool {
    matches!(syntax, "" | "proto2")
}

fn is_understood(syntax: &str) -> bool {
    is_proto2(syntax) || syntax == "proto3"
}
