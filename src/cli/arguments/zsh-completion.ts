// The completion script for zsh. Pure.
//
// _arguments completes the options and their values. It would also take the words of a server, such as --unix, for
// options, so that the script itself completes all words from MOUNTPOINT on.

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
const quoted = (text: string): string => `'${text.replaceAll("'", '')}'`;

/** A text between brackets in the specification of an option. */
const described = (text: string): string => `[${text.replace(/[[\]:]/g, '').replaceAll('\n', ' ')}]`;

function actionOf(value: ValueKind): string {
  switch (value.kind) {
    case 'words':
      return `(${value.words.join(' ')})`;
    case 'file':
      return '_files';
    case 'directory':
      // _files offers files, too, where no directory fits.
      return '_path_files -/';
    case 'mount-options':
      return '_nbdfuse_mount_options';
    case 'metrics':
      return '_nbdfuse_metrics';
    default:
      return ' ';
  }
}

/** The specifications of an option for _arguments, one for each name. */
function specsOf(option: NamedOption): readonly string[] {
  const value = valueKindOf(option);
  return option.names.map((name) => {
    const equals = value === undefined || !name.startsWith('--') ? '' : option.optional ? '=-' : '=';
    const colons = option.optional ? '::' : ':';
    const action = value === undefined ? '' : `${colons}value:${actionOf(value)}`;
    return quoted(`${name}${equals}${described(option.description)}${action}`);
  });
}

function cacheCases(): string {
  return Object.entries(CACHE_ACTIONS)
    .map(([action, options]) => {
      const specs = options.map(({ name, description, takesValue }) =>
        quoted(`${name}${described(description)}${takesValue ? ':value: ' : ''}`),
      );
      return `    ${action}) _arguments -S ${[...specs, "'*:file:_files'"].join(' ')} ;;`;
    })
    .join('\n');
}

/** Functions for values and mountpoints. */
function valueFunctions(): string {
  const options = MOUNT_OPTIONS.map(({ name, takesValue, description }) =>
    quoted(`${name}${described(description)}${takesValue ? ':value: ' : ''}`),
  );
  return `_nbdfuse_mount_options() {
  _values -s , 'mount option' ${options.join(' \\\n    ')}
}

_nbdfuse_metrics() {
  if compset -P unix:; then _files; else compadd -S '' -- unix:; fi
}

# The mountpoints of nbdfuse, without access to the mounts, which may hang.
_nbdfuse_mountpoints() {
  local source place type rest
  local -a subtypes found
  subtypes=(\${(f)"$(sh -c '${PRINT_SUBTYPES}' 2>/dev/null)"})
  while read -r source place type rest; do
    if [[ $type != fuse.nbdfuse ]]; then
      [[ $type == fuse.* ]] && (( \${subtypes[(Ie)subtype=\${type#fuse.}]} )) || continue
    fi
    place=\${(g:o:)place}
    [[ $PREFIX == /* ]] || place=\${place#$PWD/}
    found+=("$place")
  done </proc/self/mounts
  compadd -- "\${found[@]}"
}`;
}

/** The function for the words after MOUNTPOINT. */
function serverFunction(): string {
  const uris = `compadd -S '' -- ${URIS.join(' ')}`;
  return `# The words after MOUNTPOINT, or after --list: $1 is the number of the first of them.
_nbdfuse_server() {
  if (( CURRENT == $1 )); then
    compadd -- ${MODE_WORDS.map(quoted).join(' ')}
    ${uris}
    _files
    return
  fi
  integer is_next=$(( CURRENT == $1 + 1 ))
  case $words[$1] in
    ${COMMAND_WORDS.map(quoted).join('|')})
      [[ $words[$1] == '[' ]] && (( ! is_next )) && compadd -- ']'
      words=("\${(@)words[$1 + 1, -1]}")
      (( CURRENT -= $1 ))
      _normal ;;
    --unix) (( is_next )) && _files ;;
    --uri) (( is_next )) && ${uris} ;;
    --tcp) (( is_next )) && _hosts ;;
  esac
}`;
}

/** The script. */
export function zshCompletion(): string {
  const valued = OPTIONS.filter(({ required }) => required).flatMap((option) => option.names);
  return `#compdef nbdfuse
# zsh completion of nbdfuse: nbdfuse --completion zsh > a directory of $fpath/_nbdfuse

${valueFunctions()}

${serverFunction()}

if [[ $words[2] == cache ]] && (( CURRENT > 3 )) && [[ $words[3] == (${ACTIONS.join('|')}) ]]; then
  shift 2 words
  (( CURRENT -= 2 ))
  case $words[1] in
${cacheCases()}
  esac
  return
elif [[ $words[2] == cache ]] && (( CURRENT == 3 )); then
  compadd -- ${ACTIONS.join(' ')}
fi

integer first=2
local about=
while (( first < CURRENT )); do
  case $words[first] in
    ${valued.join('|')}) (( first += 2 )) ;;
    ${MOUNTED_WORDS.join('|')}|--list) about=$words[first]; (( first++ )) ;;
    -*) (( first++ )) ;;
    *) break ;;
  esac
done
if (( first < CURRENT )); then
  case $about in
    --list) _nbdfuse_server $first ;;
    '') _nbdfuse_server $(( first + 1 )) ;;
  esac
elif (( first == CURRENT )) && [[ $about == --list ]]; then
  _nbdfuse_server $first
elif (( first == CURRENT )) && [[ $about != '' && $words[CURRENT] != -* ]]; then
  _nbdfuse_mountpoints
else
  _arguments -S -A '-*' ${OPTIONS.flatMap(specsOf).join(' \\\n    ')} \\
    '1:mountpoint:_files' '*: :'
fi
`;
}
