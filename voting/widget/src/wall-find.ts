// Finding somebody by what a visitor types.

/** What the wall reads of a candidate. */
export interface Findable {
  name: string;
  organisation?: string;
  unit?: string;
}

// Spaces that line names up in a sheet, and the dots that names of several parts are written with.
const BETWEEN = /[\s·•・‧∙.]+/g;

const plain = (text: string): string => text.normalize('NFKC').toLowerCase();

/** The text that a query is looked for in: one for each candidate, made once. */
export const haystack = ({ name, organisation, unit }: Findable): string =>
  // The line break keeps an end of one field and the beginning of the next from making a match.
  [name, organisation, unit].map((text) => plain(text || '').replace(BETWEEN, '')).join('\n');

/** The words of a query; each has to be found somewhere. None of them finds everybody. */
export const words = (query: string): string[] => plain(query).split(BETWEEN).filter(Boolean);

export const found = (hay: string, wanted: string[]): boolean =>
  wanted.every((word) => hay.includes(word));
