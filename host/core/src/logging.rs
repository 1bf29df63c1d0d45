//! How much is logged about which client: what operators set, asked for every event of a client.
//!
//! In: the levels that the registry keeps (AWS IoT's logging options). Out: [`Levels::level_for`],
//! by what an event says of its client. Not here: whether there are events, and where they go (the
//! host's subscriber asks). Events that tell of no client are none of this module's.
//!
//! Nothing locks while a message passes: events of clients are about their coming, going and being
//! refused, and [`Levels::most`], an atomic, tells most of those that nobody wants.

use crate::ids::{ClientId, NameError, Principal, ThingGroupName, ThingName};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How detailed: each has the events of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Disabled,
    /// What failed.
    Error,
    /// What may lead to a failure.
    Warn,
    /// What happens at a high level.
    Info,
    /// What helps to find a defect.
    Debug,
}

impl Level {
    /// All of them, the least detailed first.
    pub const ALL: [Self; 5] = [Self::Disabled, Self::Error, Self::Warn, Self::Info, Self::Debug];

    /// As AWS's API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }

    /// What [`Level::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
}

/// What a level is set for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Whoever no other target fits.
    Default,
    /// Clients whose id is the name of a thing in the group, or in one below it.
    ThingGroup(ThingGroupName),
    /// One client.
    ClientId(ClientId),
    /// Clients that come from an address, an IPv4 address as such.
    SourceIp(IpAddr),
    /// Clients with a certificate (its id), or whom an authorizer calls so.
    PrincipalId(Principal),
}

/// Longest name of a target in bytes.
const TARGET_NAME_BYTES_MAX: usize = 128;

/// Why there is no such target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The type is none of AWS's.
    #[error(
        "targetType must be one of DEFAULT, THING_GROUP, CLIENT_ID, SOURCE_IP and PRINCIPAL_ID"
    )]
    Kind,
    /// The default is not the default of somebody.
    #[error("a target of the type DEFAULT has no targetName")]
    Named,
    /// No name, or one that cannot be.
    #[error("targetName must have 1 to {TARGET_NAME_BYTES_MAX} bytes and no control characters")]
    Name,
    /// The group cannot be called so.
    #[error("targetName: {0}")]
    Group(#[from] NameError),
    /// What should be an address is none.
    #[error("targetName must be an IPv4 or IPv6 address")]
    Ip,
}

impl Target {
    /// What [`Target::kind`] may be.
    pub const KINDS: [&str; 5] =
        ["DEFAULT", "THING_GROUP", "CLIENT_ID", "SOURCE_IP", "PRINCIPAL_ID"];

    /// What [`Target::kind`] and its `Display` wrote; no name is an empty one.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(kind: &str, name: &str) -> Result<Self, TargetError> {
        if kind == Self::Default.kind() {
            return if name.is_empty() { Ok(Self::Default) } else { Err(TargetError::Named) };
        }
        let is_name = (1..=TARGET_NAME_BYTES_MAX).contains(&name.len());
        let parsed = match kind {
            "THING_GROUP" => Self::ThingGroup(ThingGroupName::parse(name)?),
            "CLIENT_ID" => Self::ClientId(ClientId::parse(name).map_err(|_| TargetError::Name)?),
            "SOURCE_IP" => {
                let ip: IpAddr = name.parse().map_err(|_| TargetError::Ip)?;
                Self::SourceIp(ip.to_canonical())
            }
            "PRINCIPAL_ID" if name.contains(char::is_control) => return Err(TargetError::Name),
            "PRINCIPAL_ID" => Self::PrincipalId(Principal::new(name)),
            _ => return Err(TargetError::Kind),
        };
        if is_name { Ok(parsed) } else { Err(TargetError::Name) }
    }

    /// As AWS's API writes the target's type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Default => "DEFAULT",
            Self::ThingGroup(_) => "THING_GROUP",
            Self::ClientId(_) => "CLIENT_ID",
            Self::SourceIp(_) => "SOURCE_IP",
            Self::PrincipalId(_) => "PRINCIPAL_ID",
        }
    }
}

/// The target's name; none for [`Target::Default`].
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => Ok(()),
            Self::ThingGroup(name) => name.fmt(f),
            Self::ClientId(id) => id.fmt(f),
            Self::SourceIp(ip) => ip.fmt(f),
            Self::PrincipalId(principal) => principal.fmt(f),
        }
    }
}

/// The levels that hold; clones share them. Nobody has a say until they are set.
#[derive(Clone, Default)]
pub struct Levels(Arc<Shared>);

#[derive(Default)]
struct Shared {
    table: RwLock<Option<Table>>,
    /// 0: none; else one more than the place of the level in [`Level::ALL`].
    most: AtomicU8,
}

#[derive(Default)]
struct Table {
    default: Option<Level>,
    groups: HashMap<ThingGroupName, Level>,
    /// The most detailed of the groups that a thing is in.
    things: HashMap<ThingName, Level>,
    clients: HashMap<ClientId, Level>,
    ips: HashMap<IpAddr, Level>,
    principals: HashMap<Box<str>, Level>,
}

impl Levels {
    /// How much is logged of a client, as far as one knows it: the most detailed level of the targets
    /// that it fits, else the default. `None`: nobody has set anything.
    ///
    /// AWS does not say which of several targets wins. Who asks for one client's details wants to see
    /// them, whatever other targets it fits.
    pub fn level_for(
        &self,
        client_id: Option<&str>,
        ip: Option<IpAddr>,
        principal: Option<&str>,
    ) -> Option<Level> {
        let table = self.read();
        let table = table.as_ref()?;
        let found = [
            client_id.and_then(|id| table.clients.get(id)),
            client_id.and_then(|id| table.things.get(id)),
            ip.and_then(|ip| table.ips.get(&ip.to_canonical())),
            principal.and_then(|principal| table.principals.get(principal)),
        ];
        found.into_iter().flatten().max().copied().or(table.default)
    }

    /// The most detailed level that anybody has. `None`: nobody has set anything.
    pub fn most(&self) -> Option<Level> {
        let most = self.0.most.load(Ordering::Acquire);
        Level::ALL.get(usize::from(most).checked_sub(1)?).copied()
    }

    /// Replaces all levels; `things` are the levels of things by their groups.
    pub fn replace(
        &self,
        targets: impl IntoIterator<Item = (Target, Level)>,
        things: HashMap<ThingName, Level>,
    ) {
        let mut most = Level::Disabled;
        let mut table = Table { things, ..Table::default() };
        for (target, level) in targets {
            most = most.max(level);
            match target {
                Target::Default => table.default = Some(level),
                Target::ThingGroup(name) => drop(table.groups.insert(name, level)),
                Target::ClientId(id) => drop(table.clients.insert(id, level)),
                Target::SourceIp(ip) => drop(table.ips.insert(ip, level)),
                Target::PrincipalId(principal) => {
                    table.principals.insert(principal.as_str().into(), level);
                }
            }
        }
        *self.write() = Some(table);
        self.0.most.store(most as u8 + 1, Ordering::Release);
    }

    /// Whether there is a level for any group of things.
    pub(crate) fn has_groups(&self) -> bool {
        self.read().as_ref().is_some_and(|table| !table.groups.is_empty())
    }

    /// The thing is in these groups now, those above them included.
    pub(crate) fn set_groups_of(&self, thing: &ThingName, groups: &[ThingGroupName]) {
        let mut table = self.write();
        let Some(table) = table.as_mut() else { return };
        match groups.iter().filter_map(|group| table.groups.get(group)).max().copied() {
            Some(level) => drop(table.things.insert(thing.clone(), level)),
            None => drop(table.things.remove(thing)),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Table>> {
        self.0.table.read().expect("no code panics while holding the levels")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Table>> {
        self.0.table.write().expect("no code panics while holding the levels")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: &str) -> Target {
        Target::ClientId(ClientId::parse(id).unwrap())
    }

    #[test]
    fn nobody_has_a_say_until_levels_are_set() {
        let levels = Levels::default();
        assert_eq!((levels.most(), levels.level_for(Some("a"), None, None)), (None, None));
        levels.replace([(Target::Default, Level::Disabled)], HashMap::new());
        let disabled = Some(Level::Disabled);
        assert_eq!((levels.most(), levels.level_for(None, None, None)), (disabled, disabled));
    }

    #[test]
    fn the_most_detailed_level_of_what_a_client_fits_holds() {
        let group = ThingGroupName::parse("hall").unwrap();
        let (lamp, fan) = (ThingName::parse("lamp").unwrap(), ThingName::parse("fan").unwrap());
        let ip: IpAddr = "10.0.0.7".parse().unwrap();
        let levels = Levels::default();
        levels.replace(
            [
                (Target::Default, Level::Warn),
                (Target::ThingGroup(group.clone()), Level::Info),
                (client("lamp"), Level::Error),
                (client("noisy"), Level::Disabled),
                (Target::SourceIp(ip), Level::Debug),
                (Target::PrincipalId(Principal::new("p/1")), Level::Error),
            ],
            [(lamp.clone(), Level::Info)].into(),
        );
        let mapped = "::ffff:10.0.0.7".parse().unwrap();
        for (client_id, ip, principal, expected) in [
            (None, None, None, Level::Warn),
            (Some("other"), None, Some("other"), Level::Warn),
            (Some("noisy"), None, None, Level::Disabled),
            (Some("noisy"), None, Some("p/1"), Level::Error),
            (Some("lamp"), None, None, Level::Info),
            (Some("fan"), None, None, Level::Warn),
            (Some("lamp"), Some(ip), None, Level::Debug),
            (None, Some(mapped), None, Level::Debug),
        ] {
            let found = levels.level_for(client_id, ip, principal);
            assert_eq!(found, Some(expected), "{client_id:?} {ip:?} {principal:?}");
        }
        assert_eq!(levels.most(), Some(Level::Debug));
        levels.set_groups_of(&lamp, &[]);
        levels.set_groups_of(&fan, &[ThingGroupName::parse("x").unwrap(), group]);
        assert_eq!(levels.level_for(Some("lamp"), None, None), Some(Level::Error));
        assert_eq!(levels.level_for(Some("fan"), None, None), Some(Level::Info));
    }
}
