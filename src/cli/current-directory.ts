// Whether the current directory still exists: without one, Node can start no thread, and no relative name has a meaning.

/** See the file's head. */
export function isDirectoryDeleted(): boolean {
  try {
    process.cwd();
    return false;
  } catch {
    return true;
  }
}
