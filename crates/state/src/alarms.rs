//! Alarms: which member said that space ran out or that data differ. Part of the replicated state.

use std::collections::BTreeSet;

use api::etcdserverpb::{AlarmMember, AlarmType};

/// The alarms that are on. Cheap to share: readers hold an `Arc` of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Kind and member, so that lists come out in one order everywhere.
    on: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Whether any member has an alarm of this kind.
    pub fn any(&self, kind: AlarmType) -> bool {
        self.on
            .range((kind as i32, 0)..=(kind as i32, u64::MAX))
            .next()
            .is_some()
    }

    /// The alarms of a kind, all for `NONE`, in order of kinds and members.
    pub fn list(&self, kind: i32) -> impl Iterator<Item = AlarmMember> + '_ {
        let all = kind == AlarmType::None as i32;
        let wanted = self.on.iter().filter(move |(alarm, _)| all || *alarm == kind);
        wanted.map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
    }

    /// Switches an alarm on; false if it was.
    pub(crate) fn activate(&mut self, alarm: &AlarmMember) -> bool {
        self.on.insert((alarm.alarm, alarm.member_id))
    }

    /// Switches an alarm off; false if it was.
    pub(crate) fn deactivate(&mut self, alarm: &AlarmMember) -> bool {
        self.on.remove(&(alarm.alarm, alarm.member_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_kept_by_kind_and_member() {
        let alarm = |member_id, kind: AlarmType| AlarmMember {
            member_id,
            alarm: kind as i32,
        };
        let mut alarms = Alarms::default();
        assert!(alarms.activate(&alarm(7, AlarmType::Corrupt)));
        assert!(alarms.activate(&alarm(7, AlarmType::Nospace)));
        assert!(alarms.activate(&alarm(3, AlarmType::Nospace)));
        assert!(!alarms.activate(&alarm(3, AlarmType::Nospace)));
        let list = |alarms: &Alarms, kind: AlarmType| -> Vec<(u64, i32)> {
            alarms.list(kind as i32).map(|a| (a.member_id, a.alarm)).collect()
        };
        assert_eq!(list(&alarms, AlarmType::None), [(3, 1), (7, 1), (7, 2)]);
        assert_eq!(list(&alarms, AlarmType::Nospace), [(3, 1), (7, 1)]);
        assert!(alarms.deactivate(&alarm(3, AlarmType::Nospace)));
        assert!(!alarms.deactivate(&alarm(3, AlarmType::Nospace)));
        assert!(alarms.any(AlarmType::Nospace));
        assert!(alarms.deactivate(&alarm(7, AlarmType::Nospace)));
        assert!(!alarms.any(AlarmType::Nospace));
        assert!(alarms.any(AlarmType::Corrupt));
    }
}
