// Hides passwords and tokens of URLs in texts for people. Pure.
//
// Used for every message, the status and printed command lines: a token can be in any parameter, so all values are
// hidden.

/** The parameters of these URLs are NBD's or a file's, and hold no token. */
const OPEN_QUERY = /^(nbds?(\+[a-z]*)?|file)$/i;

function withoutValues(query: string): string {
  return query
    .split('&')
    .map((pair) => {
      const equals = pair.indexOf('=');
      return pair === '' ? '' : `${equals < 0 ? '' : pair.slice(0, equals + 1)}…`;
    })
    .join('&');
}

/** `user:…` of `user:password`. A web server may take a user alone as a token. */
function withoutPassword(user: string, scheme: string): string {
  const colon = user.indexOf(':');
  if (colon > 0) return `${user.slice(0, colon)}:…`;
  return colon === 0 || /^https?$/i.test(scheme) ? '…' : user;
}

/** A URL without its password and the values of its query; `rest` is what follows `://`. */
function shown(scheme: string, rest: string): string {
  const [authority = ''] = /^[^/?#]*/.exec(rest) ?? [];
  const at = authority.lastIndexOf('@');
  const user = at < 0 ? '' : `${withoutPassword(authority.slice(0, at), scheme)}@`;
  const place = rest.slice(at + 1);
  const question = place.indexOf('?');
  if (question < 0 || OPEN_QUERY.test(scheme)) return `${scheme}://${user}${place}`;
  return `${scheme}://${user}${place.slice(0, question)}?${withoutValues(place.slice(question + 1))}`;
}

/** Parameters of nbdkit and QEMU that hold a secret; nbdkit reads `+FILE` and `-FD`. */
const PARAMETER = /^([\w-]*(?:password|passphrase|secret|token|access-key|cookie)[\w-]*=)(?![-+])./i;
/** A header for a web server, in nbdkit's parameter. */
const HEADER = /^(header=[^:=]*(?:auth|cookie|token|key|secret)[^:=]*:)/i;
/** An object of QEMU. */
const OBJECT = /^((?:--object=)?secret,(?:.*,)?data=)/;

/** A word of a command line without secrets: a URL, also with spaces, or a parameter of a server. */
export function wordWithoutSecrets(word: string): string {
  const found = PARAMETER.exec(word) ?? HEADER.exec(word) ?? OBJECT.exec(word);
  if (found !== null) return `${found[1]}…`;
  return withoutSecrets(/^[a-z][a-z0-9+.-]*:\/\//i.test(word) ? word.replaceAll(/\s/g, '%20') : word);
}

/** Text that may contain URLs, with `…` instead of their passwords and the values of their queries. */
export function withoutSecrets(text: string): string {
  if (!text.includes('://')) return text;
  return text.replace(
    /\b([a-z][a-z0-9+.-]*):\/\/(\S*?)(?=[\])}>"':;,.]*(?:\s|$))/gi,
    (_, scheme: string, rest: string) => shown(scheme, rest),
  );
}

/** The title of a process, in place of a command line with secrets, which all users can read; undefined: it has none. */
export function titleWithoutSecrets(program: string, words: readonly string[]): string | undefined {
  const shown = words.map(wordWithoutSecrets);
  return shown.some((word, i) => word !== words[i]) ? [program, ...shown].join(' ') : undefined;
}
