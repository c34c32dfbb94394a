// Small texts by name in one storage key; in memory alone where storage is denied.

const STORAGE_KEY = 'dianzan';
const memory: Record<string, string | null> = {};

const all = () => {
  try {
    Object.assign(memory, JSON.parse(localStorage.getItem(STORAGE_KEY)!));
  } catch (_) {
    // What was kept in this page's life is all there is.
  }
  return memory;
};

export const recall = (name: string): string | null | undefined => all()[name];

export const remember = (name: string, text: string | null): void => {
  all()[name] = text;
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(memory));
  } catch (_) {
    // It lives as long as the page.
  }
};
