//! The wire format: tags, and what stands behind them.
//!
//! Source: protobuf.dev, "Encoding".

/// Deepest group in a group.
const GROUP_DEPTH_MAX: usize = 64;

/// Largest number of a field.
const NUMBER_MAX: u64 = (1 << 29) - 1;

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no protobuf message")]
pub struct Malformed;

/// The value of a field, as far as the wire tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wire<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    /// Without its end.
    Group(&'a [u8]),
    Fixed32([u8; 4]),
}

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next field and its number; `None` at the end.
    pub fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        let wire = match wire_type {
            3 => Wire::Group(self.group(number)?),
            _ => self.value(wire_type)?,
        };
        Ok(Some((number, wire)))
    }

    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for at in 0..10 {
            let [byte] = self.array()?;
            // Of the tenth byte one bit has room; Google's libraries ignore the others too.
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    fn tag(&mut self) -> Result<(u32, u8), Malformed> {
        let tag = self.varint()?;
        match tag >> 3 {
            1..=NUMBER_MAX => {}
            _ => return Err(Malformed),
        }
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        u8::try_from(tag & 7).map(|wire_type| (number, wire_type)).map_err(|_| Malformed)
    }

    fn value(&mut self, wire_type: u8) -> Result<Wire<'a>, Malformed> {
        match wire_type {
            0 => self.varint().map(Wire::Varint),
            1 => self.array().map(Wire::Fixed64),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
                self.0 = rest;
                Ok(Wire::Bytes(bytes))
            }
            5 => self.array().map(Wire::Fixed32),
            _ => Err(Malformed),
        }
    }

    /// The fields up to the end of this group.
    fn group(&mut self, number: u32) -> Result<&'a [u8], Malformed> {
        let start = self.0;
        let mut open = vec![number];
        while let Some(innermost) = open.last() {
            let end = start.len() - self.0.len();
            let (number, wire_type) = self.tag()?;
            match wire_type {
                3 if open.len() == GROUP_DEPTH_MAX => return Err(Malformed),
                3 => open.push(number),
                4 if number != *innermost => return Err(Malformed),
                4 if open.len() == 1 => return start.get(..end).ok_or(Malformed),
                4 => drop(open.pop()),
                _ => drop(self.value(wire_type)?),
            }
        }
        Err(Malformed)
    }
}
