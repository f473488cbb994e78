//! The MC146818 clock: the time of day, in BCD, 24 hours. Nothing is stored and
//! no alarm rings.

/// The time of day in UTC; `month` and `day` from 1, `weekday` from Sunday as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    pub year: u16,
    pub month: u8,
    pub day: u8,
    pub weekday: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    register: u8,
}

impl Utc {
    /// Of seconds since 1970 (days from civil, as H. Hinnant describes it).
    #[must_use]
    pub fn from_unix(seconds: u64) -> Self {
        let days = seconds / 86_400;
        let second = seconds % 86_400;
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        // Each value is small by its modulus; years end long after the machine.
        Self {
            year: u16::try_from(year).unwrap_or(u16::MAX),
            month: month as u8,
            day: (day_of_year - (153 * march_month + 2) / 5 + 1) as u8,
            weekday: ((days + 4) % 7 + 1) as u8,
            hour: (second / 3600) as u8,
            minute: (second / 60 % 60) as u8,
            second: (second % 60) as u8,
        }
    }
}

impl Clock {
    pub const fn select(&mut self, register: u8) {
        // The high bit masks NMIs, which nobody raises.
        self.register = register & 0x7F;
    }

    #[must_use]
    pub const fn register(&self) -> u8 {
        self.register
    }

    pub fn read(&self, now: impl FnOnce() -> Utc) -> u8 {
        match self.register {
            0x00 => bcd(now().second),
            0x02 => bcd(now().minute),
            0x04 => bcd(now().hour),
            0x06 => now().weekday,
            0x07 => bcd(now().day),
            0x08 => bcd(now().month),
            0x09 => bcd((now().year % 100) as u8),
            0x32 => bcd((now().year / 100 % 100) as u8),
            // 32.768 kHz, no update in progress.
            0x0A => 0x26,
            // 24 hours, BCD.
            0x0B => 0x02,
            // The battery is good.
            0x0D => 0x80,
            _ => 0,
        }
    }
}

const fn bcd(value: u8) -> u8 {
    ((value / 10) << 4) | (value % 10)
}
