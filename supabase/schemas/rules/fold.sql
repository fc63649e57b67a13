-- Folds a text for comparison: lower case, compatibility forms (full-width letters, ligatures) replaced by plain ones,
-- accents composed with their letters, and invisible characters (soft hyphens, joiners, direction marks) removed.
create or replace function turnlog.fold(content text) returns text
language plpgsql immutable parallel safe
set search_path = ''
as $$
begin
    return case when octet_length(content) = length(content) then lower(content)
        else replace(lower(case
            when content ~ '[\u00AD\u061C\u200B-\u200F\u202A-\u202E\u2060\u2066-\u2069\uFE0E\uFE0F\uFEFF]'
                then translate(normalize(content, nfkc),
                    U&'\00AD\061C\200B\200C\200D\200E\200F\202A\202B\202C\202D\202E\2060\2066\2067\2068\2069\FE0E\FE0F\FEFF', '')
            when content is nfkc normalized then content -- usually, and the check takes half as long
            else normalize(content, nfkc) end), U&'\03C2', U&'\03C3') end; -- a final sigma is a sigma
end
$$;
