// The completion script for fish. Pure.

import { CACHE_ACTIONS } from './cache-words.js';
import {
  COMMAND_WORDS,
  MOUNT_OPTIONS,
  MOUNTED_WORDS,
  PRINT_SUBTYPES,
  URIS,
  type ValueKind,
  valueKindOf,
} from './completion-values.js';
import { type NamedOption, OPTIONS } from './options.js';
import { MODE_WORDS } from './server-mode.js';

const ACTIONS = Object.keys(CACHE_ACTIONS);

/** A text between single quotes. */
const quoted = (text: string): string => `'${text.replaceAll("'", '').replaceAll('\n', ' ')}'`;

/** The words of `complete` about a value. */
function valueWords(value: ValueKind): string {
  switch (value.kind) {
    case 'words':
      return `-x -a ${quoted(value.words.join(' '))}`;
    case 'file':
      return '-r -F';
    case 'directory':
      return "-x -a '(__fish_complete_directories)'";
    case 'mount-options':
      return "-x -a '(__nbdfuse_mount_options)'";
    case 'metrics':
      return "-x -a '(__nbdfuse_metrics)'";
    default:
      return '-x';
  }
}

/** A line for an option before MOUNTPOINT. An optional value has no word of its own. */
function lineOf(option: NamedOption): string {
  const names = option.names.map((name) =>
    name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
  );
  const value = valueKindOf(option);
  const words = value === undefined || option.optional ? '' : `${valueWords(value)} `;
  const description = `-d ${quoted(option.description)}`;
  return `complete -c nbdfuse -n '__nbdfuse_at mountpoint mounted' ${names.join(' ')} ${words}${description}`;
}

function cacheLines(): readonly string[] {
  return Object.entries(CACHE_ACTIONS).flatMap(([action, options]) =>
    options.map(({ name, description, takesValue }) => {
      const value = takesValue ? '-x ' : '';
      return `complete -c nbdfuse -n '__nbdfuse_cache ${action}' -l ${name.slice(2)} ${value}-d ${quoted(description)}`;
    }),
  );
}

function cacheFunctions(): string {
  return `function __nbdfuse_cache -d 'Whether one of these words follows nbdfuse cache'
  set -l words (commandline -opc)
  test (count $words) -ge 3; and test "$words[2]" = cache; and contains -- "$words[3]" $argv
end

function __nbdfuse_is_cache -d 'Whether the word is the one after nbdfuse cache'
  set -l words (commandline -opc)
  test (count $words) -eq 2; and test "$words[2]" = cache
end`;
}

function placeFunctions(): string {
  const valued = OPTIONS.filter(({ required }) => required).flatMap((option) => option.names);
  return `function __nbdfuse_place -d 'The kind of the word at the cursor'
  set -l words (commandline -opc)
  set -e words[1]
  if __nbdfuse_cache ${ACTIONS.join(' ')}
    echo cache
    return
  end
  set -l about
  while set -q words[1]
    switch $words[1]
      case ${valued.join(' ')}
        set -e words[1]
      case ${MOUNTED_WORDS.join(' ')} --list
        set about $words[1]
      case '-*'
      case '*'
        break
    end
    set -e words[1]
  end
  if test "$about" = --list
    set -p words --list
  else if test -n "$about"
    set -q words[1]; or echo mounted
    return
  end
  switch (count $words)
    case 0
      echo mountpoint
    case 1
      echo server
    case 2
      echo "after $words[2]"
    case '*'
      contains -- $words[2] ${COMMAND_WORDS.map(quoted).join(' ')}; and echo command
  end
end

function __nbdfuse_at -d 'Whether the word at the cursor is of one of these kinds'
  contains -- (__nbdfuse_place) $argv
end`;
}

function valueFunctions(): string {
  const names = MOUNT_OPTIONS.map(({ name, takesValue }) => `${name}${takesValue ? '=' : ''}`);
  return `function __nbdfuse_value -d 'The value at the cursor, which may follow =, or the letter of an option'
  string replace -r '^(--[^=]+=|-o)' '' -- (commandline -ct)
end

function __nbdfuse_mount_options -d 'The list of mount options at the cursor, with each option that may come next'
  set -l before (string match -r '^.*,' -- (__nbdfuse_value))
  printf '%s\\n' "$before"{${names.join(',')}}
end

function __nbdfuse_metrics -d 'Where metrics may be served'
  set -l value (__nbdfuse_value)
  if string match -q 'unix:*' -- $value
    for path in (string replace unix: '' -- $value)*
      echo unix:$path
    end
  else
    echo unix:
  end
end

function __nbdfuse_mountpoints -d 'The mountpoints of nbdfuse, without access to the mounts, which may hang'
  set -l types fuse.nbdfuse (string replace subtype= fuse. -- (sh -c '${PRINT_SUBTYPES.replaceAll('\\', '\\\\')}' 2>/dev/null))
  set -l here '^'(string escape --style=regex -- "$PWD/")
  while read -l -d ' ' source place type rest
    contains -- $type $types; or continue
    set place (printf '%b' (string replace -a '\\\\' '\\\\0' -- $place))
    string match -q '/*' -- (commandline -ct); or set place (string replace -r -- $here '' $place)
    echo $place
  end </proc/self/mounts
end`;
}

/** The script. */
export function fishCompletion(): string {
  const uris = quoted(URIS.join(' '));
  const after = (words: readonly string[]): string =>
    `-n ${quoted(`__nbdfuse_at ${words.map((word) => `"after ${word}"`).join(' ')}`)}`;
  return `# fish completion of nbdfuse: nbdfuse --completion fish > ~/.config/fish/completions/nbdfuse.fish
${cacheFunctions()}

${placeFunctions()}

${valueFunctions()}

${OPTIONS.map(lineOf).join('\n')}
complete -c nbdfuse -n '__nbdfuse_at mounted' -f -a '(__nbdfuse_mountpoints)'
complete -c nbdfuse -n '__nbdfuse_at server' -a ${quoted(MODE_WORDS.join(' '))}
complete -c nbdfuse -n '__nbdfuse_at server' -a ${uris}
complete -c nbdfuse ${after(COMMAND_WORDS)} -a '(__fish_complete_command)'
complete -c nbdfuse -n '__nbdfuse_at command' -a ']'
complete -c nbdfuse ${after(['--uri'])} -f -a ${uris}
complete -c nbdfuse ${after(['--tcp'])} -f -a '(__fish_print_hostnames)'
complete -c nbdfuse ${after(['--fd', '--vsock'])} -f
complete -c nbdfuse -n __nbdfuse_is_cache -a ${quoted(ACTIONS.join(' '))}
${cacheLines().join('\n')}
`;
}
