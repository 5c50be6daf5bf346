//! TLV values of fixed length.

/// Synchronisation source of a clock (RFC 8972 §5.3, table 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncSource(pub u8);

impl SyncSource {
    pub const NONE: Self = Self(0);
    pub const NTP: Self = Self(1);
    pub const PTP: Self = Self(2);
    pub const SSU_BITS: Self = Self(3);
    /// Or LORAN-C.
    pub const SATELLITE: Self = Self(4);
    /// None: the clock runs free.
    pub const LOCAL: Self = Self(5);
}

/// How timestamps are taken (RFC 8972 §5.3, table 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampMethod(pub u8);

impl TimestampMethod {
    pub const NONE: Self = Self(0);
    pub const HARDWARE: Self = Self(1);
    /// In the data path.
    pub const SOFTWARE: Self = Self(2);
    pub const CONTROL_PLANE: Self = Self(3);
}

/// Timestamp Information (RFC 8972 §4.3). The sender leaves all of it zero; optional sub-TLVs may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampInformation {
    /// Of T2.
    pub sync_in: SyncSource,
    /// Of T2.
    pub method_in: TimestampMethod,
    /// Of T3.
    pub sync_out: SyncSource,
    /// Of T3.
    pub method_out: TimestampMethod,
}

impl TimestampInformation {
    /// Length without sub-TLVs.
    pub const LEN: usize = 4;

    pub fn to_bytes(self) -> [u8; Self::LEN] {
        [self.sync_in.0, self.method_in.0, self.sync_out.0, self.method_out.0]
    }

    /// From a value of at least [`Self::LEN`] bytes.
    pub fn read(value: &[u8]) -> Option<Self> {
        let &[sync_in, method_in, sync_out, method_out] = value.first_chunk()?;
        Some(Self {
            sync_in: SyncSource(sync_in),
            method_in: TimestampMethod(method_in),
            sync_out: SyncSource(sync_out),
            method_out: TimestampMethod(method_out),
        })
    }
}

/// Class of Service (RFC 8972 §4.4, erratum 8199): `DSCP1 (6) | DSCP2 (6) | ECN (2) | RP (2) | reserved (16)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassOfService {
    /// DSCP that the sender wants on the reply.
    pub dscp_wanted: u8,
    /// DSCP with which the test packet reached the reflector.
    pub dscp_received: u8,
    /// ECN with which the test packet reached the reflector.
    pub ecn_received: u8,
    /// RP: 0 if the reply was sent with the wanted DSCP, 1 if the reflector's policy refused it.
    pub reverse_path: u8,
}

impl ClassOfService {
    pub const LEN: usize = 4;

    /// Bits that exceed a field are cut off.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let bits = (u16::from(self.dscp_wanted & 0x3f) << 10)
            | (u16::from(self.dscp_received & 0x3f) << 4)
            | (u16::from(self.ecn_received & 3) << 2)
            | u16::from(self.reverse_path & 3);
        let [high, low] = bits.to_be_bytes();
        [high, low, 0, 0]
    }

    /// From a value of exactly [`Self::LEN`] bytes.
    pub fn read(value: &[u8]) -> Option<Self> {
        let &[high, low, _, _] = <&[u8; Self::LEN]>::try_from(value).ok()?;
        let bits = u16::from_be_bytes([high, low]);
        Some(Self {
            dscp_wanted: (bits >> 10) as u8,
            dscp_received: (bits >> 4) as u8 & 0x3f,
            ecn_received: (bits >> 2) as u8 & 3,
            reverse_path: bits as u8 & 3,
        })
    }
}

/// Direct Measurement (RFC 8972 §4.5): counts of packets of the measured flow, each modulo 2³².
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectMeasurement {
    /// Sent by the sender.
    pub sender_sent: u32,
    /// Received by the reflector.
    pub reflector_received: u32,
    /// Sent by the reflector.
    pub reflector_sent: u32,
}

impl DirectMeasurement {
    pub const LEN: usize = 12;

    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let counts = [self.sender_sent, self.reflector_received, self.reflector_sent];
        for (place, count) in bytes.chunks_exact_mut(4).zip(counts) {
            place.copy_from_slice(&count.to_be_bytes());
        }
        bytes
    }

    /// From a value of exactly [`Self::LEN`] bytes.
    pub fn read(value: &[u8]) -> Option<Self> {
        let value = <&[u8; Self::LEN]>::try_from(value).ok()?;
        let count = |at: usize| {
            let place = value[at..].first_chunk();
            place.map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        Some(Self {
            sender_sent: count(0),
            reflector_received: count(4),
            reflector_sent: count(8),
        })
    }
}

/// Access Report (RFC 8972 §4.6): `ID (4) | reserved (4) | return code (8) | reserved (16)`. A reflector returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessReport {
    /// 1: a 3GPP network, 2: another; nothing else is valid.
    pub access_id: u8,
    /// 1: available, 2: unavailable.
    pub return_code: u8,
}

impl AccessReport {
    pub const LEN: usize = 4;

    pub fn to_bytes(self) -> [u8; Self::LEN] {
        [self.access_id << 4, self.return_code, 0, 0]
    }

    /// From a value of exactly [`Self::LEN`] bytes.
    pub fn read(value: &[u8]) -> Option<Self> {
        let &[id, return_code, _, _] = <&[u8; Self::LEN]>::try_from(value).ok()?;
        Some(Self {
            access_id: id >> 4,
            return_code,
        })
    }

    /// Whether the Access ID is one of those that are defined; a report with another is discarded (§4.6).
    pub fn is_valid(&self) -> bool {
        matches!(self.access_id, 1 | 2)
    }
}

/// Follow-Up Telemetry (RFC 8972 §4.7) about the previous reply. The sender leaves it zero, and so does a stateless
/// reflector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowUp {
    /// Sequence number of that reply, the reflector's own.
    pub sequence: u32,
    /// When it left, in the format of the reflector's other timestamps.
    pub timestamp: u64,
    pub method: TimestampMethod,
}

impl FollowUp {
    pub const LEN: usize = 16;
    /// As sent by a sender, and by a reflector that has nothing to report.
    pub const NONE: Self = Self {
        sequence: 0,
        timestamp: 0,
        method: TimestampMethod::NONE,
    };

    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[12] = self.method.0;
        bytes
    }

    /// From a value of exactly [`Self::LEN`] bytes.
    pub fn read(value: &[u8]) -> Option<Self> {
        let value = <&[u8; Self::LEN]>::try_from(value).ok()?;
        let (sequence, rest) = value.split_first_chunk()?;
        let (timestamp, rest) = rest.split_first_chunk()?;
        Some(Self {
            sequence: u32::from_be_bytes(*sequence),
            timestamp: u64::from_be_bytes(*timestamp),
            method: TimestampMethod(rest[0]),
        })
    }
}
