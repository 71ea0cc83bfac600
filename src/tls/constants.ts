// Numbers of TLS 1.3 (RFC 8446): content types, messages after the handshake, alerts, limits.

/** Content types of records (section 5.1). */
export const ALERT = 21;
export const HANDSHAKE = 22;
export const APPLICATION_DATA = 23;

/** Length of a record header in bytes: type, legacy version, length. */
export const HEADER = 5;
/** Length of the tag of every cipher here, in bytes. */
export const TAG = 16;
/** Most content of a record in bytes. */
export const MAX_CONTENT = 16_384;
/** Most bytes after a record header. */
export const MAX_CIPHERTEXT = MAX_CONTENT + 256;

/** Messages that may follow the handshake (section 4). */
export const NEW_SESSION_TICKET = 4;
export const KEY_UPDATE = 24;

/** Alerts (section 6). */
export const CLOSE_NOTIFY = 0;
export const UNEXPECTED_MESSAGE = 10;
export const BAD_RECORD_MAC = 20;
export const RECORD_OVERFLOW = 22;
export const ILLEGAL_PARAMETER = 47;
export const DECODE_ERROR = 50;
export const USER_CANCELED = 90;

const ALERT_NAMES: Readonly<Record<number, string>> = {
  [CLOSE_NOTIFY]: 'close_notify',
  [UNEXPECTED_MESSAGE]: 'unexpected_message',
  [BAD_RECORD_MAC]: 'bad_record_mac',
  [RECORD_OVERFLOW]: 'record_overflow',
  40: 'handshake_failure',
  42: 'bad_certificate',
  43: 'unsupported_certificate',
  44: 'certificate_revoked',
  45: 'certificate_expired',
  46: 'certificate_unknown',
  [ILLEGAL_PARAMETER]: 'illegal_parameter',
  48: 'unknown_ca',
  49: 'access_denied',
  [DECODE_ERROR]: 'decode_error',
  51: 'decrypt_error',
  70: 'protocol_version',
  71: 'insufficient_security',
  80: 'internal_error',
  86: 'inappropriate_fallback',
  [USER_CANCELED]: 'user_canceled',
  109: 'missing_extension',
  110: 'unsupported_extension',
  112: 'unrecognized_name',
  113: 'bad_certificate_status_response',
  115: 'unknown_psk_identity',
  116: 'certificate_required',
  120: 'no_application_protocol',
};

/** The name of an alert, or its number without one. */
export function alertName(description: number): string {
  return ALERT_NAMES[description] ?? String(description);
}
