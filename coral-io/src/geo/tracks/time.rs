/// Seconds since 1970-01-01 00:00 UTC of a date and time as in EXIF (`2023:09:06 10:11:12.5`), ISO 8601
/// (`2023-09-06T10:11:12+04:00`) or with slashes, or of such a number of seconds. Without an offset, the time is UTC.
pub(crate) fn parse_time(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds.is_finite().then_some(seconds);
    }
    let (date, time) = (text.get(..10)?, text.get(10..)?.strip_prefix([' ', 'T', 't'])?.trim_start());
    let days = days(date)?;
    let (time, offset) = match time.rfind(['Z', 'z', '+', '-']) {
        Some(at) => (time[..at].trim_end(), offset(&time[at..])?),
        None => (time, 0.0),
    };
    let mut parts = time.split(':');
    let (hour, minute) = (whole(parts.next()?, 23)?, whole(parts.next()?, 59)?);
    let second = parts.next().unwrap_or("0");
    let plain = second.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let second: f64 = second.parse().ok().filter(|second| plain && (0.0..61.0).contains(second))?;
    let seconds = days as f64 * 86_400.0 + f64::from(hour) * 3600.0 + f64::from(minute) * 60.0 + second;
    parts.next().is_none().then_some(seconds - offset)
}

/// A number of digits alone, up to a limit.
fn whole(text: &str, most: u32) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&number| digits && number <= most)
}

/// Seconds east of UTC: `Z`, `+04:00`, `-0330`, `+04`.
fn offset(text: &str) -> Option<f64> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("Z" | "z", "") => return Some(0.0),
        ("+", digits) => (1.0, digits),
        ("-", digits) => (-1.0, digits),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes = if minutes.is_empty() { 0 } else { whole(minutes, 59)? };
    Some(sign * (f64::from(whole(hours, 23)?) * 3600.0 + f64::from(minutes) * 60.0))
}

/// Days since 1970-01-01 of `YYYY-MM-DD`, with `-`, `:` or `/`.
fn days(date: &str) -> Option<i64> {
    let parts: Vec<_> = date.split(['-', ':', '/']).collect();
    let [year, month, day] = parts[..] else { return None };
    let (year, month, day) = (i64::from(whole(year, 9999)?), whole(month, 12)?, whole(day, 31)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = (month as usize).checked_sub(1)?;
    if day == 0 || day > lengths[before] {
        return None;
    }
    let earlier = year - 1;
    let to_year = earlier * 365 + earlier.div_euclid(4) - earlier.div_euclid(100) + earlier.div_euclid(400) - 719_162;
    Some(to_year + i64::from(lengths[..before].iter().sum::<u32>()) + i64::from(day) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_all_spellings() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0.0),
            ("2000:02:29 12:00:00", 951_825_600.0),
            ("2023:09:06 10:11:12.25", 1_693_995_072.25),
            ("2023-09-06T14:11:12.25+04:00", 1_693_995_072.25),
            ("2023/09/06 06:41:12.250000-0330", 1_693_995_072.25),
            ("2023-09-06 10:11", 1_693_995_060.0),
            ("1969-12-31 23:59:59z", -1.0),
            ("1693995072.25", 1_693_995_072.25),
        ] {
            assert_eq!(parse_time(text), Some(seconds), "{text}");
        }
        for text in [
            "",
            "nan",
            "2023-09-06",
            "2023-02-29 00:00:00",
            "2023-13-01 00:00",
            "2023-00-01 00:00",
            "2023-09-06 24:00:00",
            "2023-09-06 10:60:00",
            "2023-09-06 10:00:61",
            "2023-09-06 10:00:-1",
            "2023-09-06 1:2:3:4",
            "0000:00:00 00:00:00",
            "2023-09-06 10:00:00+é",
            "20230906T101112Z",
            "2023-09-06T10:00:00+",
            "é2023-09-06 10:00",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
