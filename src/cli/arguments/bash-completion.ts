// The completion script for bash. Pure.
//
// bash divides words at the characters of COMP_WORDBREAKS, such as "=" and ":", and replaces the part after the last of
// them. The script joins the parts, completes whole words, and cuts what bash keeps.

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

/** The options of nbdsh, which a test compares with its help. */
const SHELL_OPTIONS = ['-c', '--command', '-u', '--uri', '-h', '--help', '-V', '--version'];

/** Functions that do not depend on the options. */
const FUNCTIONS = `# Joins the parts of COMP_WORDS up to the cursor. Sets words, and kept: the part of the last word that bash keeps.
_nbdfuse_words() {
  local line=\${COMP_LINE:0:COMP_POINT} rest part i
  words=() kept=
  for ((i = 0; i <= COMP_CWORD; i++)); do
    rest=\${line#"\${line%%[![:space:]]*}"}
    part=\${COMP_WORDS[i]}
    if ((i == COMP_CWORD)); then part=$rest; fi
    if [[ $rest != "$line" ]] || ((i == 0)); then
      words+=("$part") kept=
    else
      kept=\${words[\${#words[@]} - 1]}
      words[\${#words[@]} - 1]+=$part
    fi
    if ((i == COMP_CWORD)) && [[ $part =~ ^[=:]+$ ]]; then kept+=$part; fi
    line=\${rest#"$part"}
  done
}

# Adds the words of $1 that begin with $2, each after $3.
_nbdfuse_add() {
  local one found
  mapfile -t found < <(compgen -W "$1" -- "$2")
  for one in "\${found[@]}"; do COMPREPLY+=("$3$one"); done
}

# Adds the files that begin with $1, each after $2. With $3 as -d, the directories only.
_nbdfuse_files() {
  local one found
  mapfile -t found < <(compgen "\${3:--f}" -- "$1")
  for one in "\${found[@]}"; do COMPREPLY+=("$2$one"); done
  if ((\${#found[@]} > 0)); then compopt -o filenames 2>/dev/null; fi
}

# Adds the mount options that begin like the last one in the list $1, each after $2 and the rest of the list.
_nbdfuse_mount_options() {
  local before=
  if [[ $1 == *,* ]]; then before=\${1%,*},; fi
  _nbdfuse_add '${MOUNT_OPTIONS.map(({ name, takesValue }) => `${name}${takesValue ? '=' : ''}`).join(' ')}' "\${1##*,}" "$2$before"
  compopt -o nospace 2>/dev/null
}

# Adds the values of --metrics that begin with $1, each after $2.
_nbdfuse_metrics() {
  if [[ $1 == unix:* ]]; then _nbdfuse_files "\${1#unix:}" "$2unix:"; return; fi
  _nbdfuse_add unix: "$1" "$2"
  compopt -o nospace 2>/dev/null
}

# Adds the mountpoints of nbdfuse that begin with $1, without access to the mounts, which may hang.
_nbdfuse_mountpoints() {
  local path type subtypes
  subtypes=$'\\n'$(sh -c '${PRINT_SUBTYPES}' 2>/dev/null)$'\\n'
  while read -r _ path type _; do
    if [[ $type != fuse.nbdfuse ]]; then
      [[ $type == fuse.* && $subtypes == *$'\\n'"subtype=\${type#fuse.}"$'\\n'* ]] || continue
    fi
    printf -v path %b "\${path//\\\\/\\\\0}"
    if [[ $1 != /* ]]; then path=\${path#"$PWD/"}; fi
    if [[ $path == "$1"* ]]; then COMPREPLY+=("$(printf %q "$path")"); fi
  done </proc/self/mounts
}`;

/** The command that adds the values of a kind: $2 is the beginning, $3 the part of the word before it. */
function addValues(value: ValueKind): string | undefined {
  switch (value.kind) {
    case 'words':
      return `_nbdfuse_add '${value.words.join(' ')}' "$2" "$3"`;
    case 'file':
      return '_nbdfuse_files "$2" "$3"';
    case 'directory':
      return '_nbdfuse_files "$2" "$3" -d';
    case 'mount-options':
      return '_nbdfuse_mount_options "$2" "$3"';
    case 'metrics':
      return '_nbdfuse_metrics "$2" "$3"';
    default:
      return undefined;
  }
}

function valueCase(option: NamedOption): readonly string[] {
  const value = valueKindOf(option);
  const command = value && addValues(value);
  return command === undefined ? [] : [`    ${option.names.join('|')}) ${command} ;;`];
}

function cacheCases(): string {
  return Object.entries(CACHE_ACTIONS)
    .map(
      ([action, options]) =>
        `      ${action}) _nbdfuse_add '${options.map(({ name }) => name).join(' ')}' "$word" ;;`,
    )
    .join('\n');
}

/** The functions for the words of one place. */
function placeFunctions(): string {
  return `# Adds the values of the option $1 that begin with $2, each after $3.
_nbdfuse_values() {
  case $1 in
${OPTIONS.flatMap(valueCase).join('\n')}
  esac
}

# Adds the words after \`nbdfuse cache ACTION\`.
_nbdfuse_cache() {
  if [[ $word != -* ]]; then _nbdfuse_files "$word"; return; fi
  case \${words[2]} in
${cacheCases()}
  esac
}

# Adds the words after MOUNTPOINT, or after --list: $1 is the number of the first of them.
_nbdfuse_server() {
  if (($1 == last)); then
    _nbdfuse_add '${[...MODE_WORDS, ...URIS].join(' ')}' "$word"
    _nbdfuse_files "$word"
    return
  fi
  case \${words[$1]} in
    '${COMMAND_WORDS[0]}'|${COMMAND_WORDS.slice(1).join('|')})
      if (($1 + 1 == last)); then
        mapfile -t COMPREPLY < <(compgen -c -- "$word")
      elif [[ \${words[$1]} == '[' ]]; then
        _nbdfuse_add ']' "$word"
      fi
      _nbdfuse_files "$word" ;;
    --unix) if (($1 + 1 == last)); then _nbdfuse_files "$word"; fi ;;
    --uri) if (($1 + 1 == last)); then _nbdfuse_add '${URIS.join(' ')}' "$word"; fi ;;
    --tcp) if (($1 + 1 == last)); then mapfile -t COMPREPLY < <(compgen -A hostname -- "$word"); fi ;;
  esac
}`;
}

function nbdfuseFunction(): string {
  const names = OPTIONS.flatMap((option) => option.names);
  const valued = OPTIONS.filter(({ required }) => required).flatMap((option) => option.names);
  const actions = Object.keys(CACHE_ACTIONS);
  return `# Adds the words for nbdfuse.
_nbdfuse_all() {
  local first=1 about=
  while ((first < last)); do
    case \${words[first]} in
      ${valued.join('|')}) ((first += 2)) ;;
      ${MOUNTED_WORDS.join('|')}|--list) about=\${words[first]}; ((first++)) ;;
      -*) ((first++)) ;;
      *) break ;;
    esac
  done
  if ((first > last)); then _nbdfuse_values "\${words[last - 1]}" "$word"; return; fi
  if [[ \${words[1]} == cache ]] && ((last == 2)); then _nbdfuse_add '${actions.join(' ')}' "$word"; fi
  if [[ \${words[1]} == cache ]] && ((last > 2)) && [[ \${words[2]} =~ ^(${actions.join('|')})$ ]]; then
    _nbdfuse_cache
  elif ((first < last)); then
    case $about in
      --list) _nbdfuse_server "$first" ;;
      '') _nbdfuse_server "$((first + 1))" ;;
    esac
  elif [[ $word == --*=* ]]; then
    _nbdfuse_values "\${word%%=*}" "\${word#*=}" "\${word%%=*}="
  elif [[ $word == -* && $about != --list ]]; then
    _nbdfuse_add '${names.join(' ')}' "$word"
  elif [[ $about == --list ]]; then
    _nbdfuse_server "$first"
  elif [[ $about != '' ]]; then
    _nbdfuse_mountpoints "$word"
  else
    _nbdfuse_files "$word"
  fi
}`;
}

/** The script, which also completes nbdsh. */
export function bashCompletion(): string {
  return `# bash completion of nbdfuse and nbdsh: source <(nbdfuse --completion bash)

${FUNCTIONS}

${placeFunctions()}

${nbdfuseFunction()}

# Adds the words for nbdsh.
_nbdfuse_shell() {
  case \${words[last - 1]} in
    -u|--uri) _nbdfuse_add '${URIS.join(' ')}' "$word"; return ;;
    -c|--command) return ;;
  esac
  case $word in
    --uri=*) _nbdfuse_add '${URIS.join(' ')}' "\${word#*=}" --uri= ;;
    *) _nbdfuse_add '${SHELL_OPTIONS.join(' ')}' "$word" ;;
  esac
}

# Completes the word at the cursor by the function $1.
_nbdfuse_complete() {
  local words kept word last i
  _nbdfuse_words
  last=$((\${#words[@]} - 1))
  # As typed, a name may have a quote before it, and backslashes.
  word=\${words[last]#[\\"\\']}
  word=\${word//\\\\/}
  COMPREPLY=()
  "$1"
  kept=\${kept#[\\"\\']}
  kept=\${kept//\\\\/}
  for i in "\${!COMPREPLY[@]}"; do
    if [[ \${COMPREPLY[i]} == */ ]]; then compopt -o nospace 2>/dev/null; fi
    COMPREPLY[i]=\${COMPREPLY[i]#"$kept"}
  done
}

_nbdfuse() { _nbdfuse_complete _nbdfuse_all; }
_nbdsh() { _nbdfuse_complete _nbdfuse_shell; }
complete -F _nbdfuse nbdfuse
complete -F _nbdsh nbdsh
`;
}
