//! A reflector answers TLVs in place: each keeps its type and length, and only the last can be malformed.

#![no_main]

use probe_common::tlv::{
    self, Cut, FollowUp, HEADER_LEN, HMAC_LEN, HmacPlace, Location, Observed, SyncSource, TimestampInformation,
    TimestampMethod, Tlv, Writer, flag, kind,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&options, bytes)) = bytes.split_first() else {
        return;
    };
    let asked: Vec<_> = tlv::read(bytes).collect();
    assert!(
        asked.iter().rev().skip(1).all(Result::is_ok),
        "no TLV follows a truncated one"
    );

    let mut answer = bytes.to_vec();
    let answered = tlv::answer(
        &mut answer,
        &observed(options),
        &[[10, 1, 1, 6].into(), [0xfd02; 8].into()],
    );
    let given: Vec<_> = tlv::read(&answer).collect();
    check_answer(&asked, &given, answered.malformed);
    let unrecognised = given
        .iter()
        .flatten()
        .filter(|tlv| tlv.has(flag::UNRECOGNISED) && !tlv.has(flag::MALFORMED));
    if !answered.malformed {
        assert_eq!(unrecognised.count(), answered.unrecognised as usize);
    }

    check_hmac_place(bytes);
    check_integrity(bytes);
    check_writer(&asked);
});

fn observed(options: u8) -> Observed {
    let method = TimestampMethod::SOFTWARE;
    Observed {
        source: if options & 1 == 0 {
            ([10, 1, 1, 5].into(), 40_001)
        } else {
            ([0xfd01; 8].into(), 40_001)
        },
        destination: if options & 1 == 0 {
            ([10, 1, 1, 6].into(), 862)
        } else {
            ([0xfd02; 8].into(), 862)
        },
        dscp: 20,
        ecn: 1,
        may_set_dscp: options & 2 == 0,
        has_key: options & 4 == 0,
        timestamps: TimestampInformation {
            sync_in: SyncSource::NTP,
            method_in: method,
            sync_out: SyncSource::NTP,
            method_out: method,
        },
        received: 7,
        sent: 7,
        follow_up: FollowUp {
            sequence: 6,
            timestamp: 1,
            method,
        },
    }
}

type Read<'a> = Result<Tlv<'a>, Cut>;

/// Types and lengths are those of the question; behind a malformed TLV all is as it was.
fn check_answer(asked: &[Read], given: &[Read], malformed: bool) {
    assert_eq!(asked.len(), given.len());
    let mut is_behind = false;
    for (asked, given) in asked.iter().zip(given) {
        let (Ok(asked), Ok(given)) = (asked, given) else {
            assert_eq!(asked.is_err(), given.is_err());
            assert!(malformed);
            return;
        };
        assert_eq!((asked.kind, asked.value.len()), (given.kind, given.value.len()));
        if is_behind {
            assert_eq!(asked, given);
        } else if given.has(flag::MALFORMED) {
            assert!(malformed);
            is_behind = true;
        } else {
            assert_eq!(given.flags & !flag::UNRECOGNISED, 0);
        }
        if given.kind == kind::LOCATION {
            let _ = Location::read(given.value).map(|location| location.subs().count());
        }
    }
    assert_eq!(is_behind, malformed);
}

fn check_hmac_place(bytes: &[u8]) {
    if let HmacPlace::At(at) = tlv::hmac_place(bytes) {
        assert_eq!(bytes[at + 1], kind::HMAC);
        assert!(bytes.len() >= at + HEADER_LEN + HMAC_LEN);
        let behind = tlv::read(&bytes[at..]).skip(1);
        assert!(behind.flatten().all(|tlv| tlv.kind == kind::EXTRA_PADDING));
    }
}

/// Flag I, in every TLV, and nothing else.
fn check_integrity(bytes: &[u8]) {
    let mut failed = bytes.to_vec();
    tlv::fail_integrity(&mut failed);
    let flags: usize = bytes
        .iter()
        .zip(&failed)
        .filter(|(before, after)| before != after)
        .count();
    assert!(flags <= tlv::read(bytes).count());
    for (before, after) in tlv::read(bytes).flatten().zip(tlv::read(&failed).flatten()) {
        assert_eq!(after.flags, before.flags | flag::INTEGRITY);
        assert_eq!((after.kind, after.value), (before.kind, before.value));
    }
}

/// What a sender writes is read as it was written.
fn check_writer(tlvs: &[Read]) {
    let mut room = vec![0; tlvs.iter().flatten().map(|tlv| HEADER_LEN + tlv.value.len()).sum()];
    let mut writer = Writer::new(&mut room);
    for tlv in tlvs.iter().flatten() {
        writer.push(tlv.kind, tlv.value).expect("there is room");
    }
    let written = tlv::read(writer.written()).map(|tlv| tlv.expect("whole"));
    let written: Vec<_> = written.map(|tlv| (tlv.flags, tlv.kind, tlv.value)).collect();
    let wanted = tlvs
        .iter()
        .flatten()
        .map(|tlv| (flag::UNRECOGNISED, tlv.kind, tlv.value));
    assert_eq!(written, wanted.collect::<Vec<_>>());
}
