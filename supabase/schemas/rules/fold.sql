-- What texts and terms are compared by: small letters, full-width forms and ligatures as the plain ones, letters and
-- their accents composed, and without marks that nobody sees (soft hyphens, joiners, signs of direction).
create or replace function turnlog.fold(said text) returns text
language plpgsql immutable parallel safe
set search_path = ''
as $$
begin
    return case when octet_length(said) = length(said) then lower(said)
        else replace(lower(case
            when said ~ '[\u00AD\u061C\u200B-\u200F\u202A-\u202E\u2060\u2066-\u2069\uFE0E\uFE0F\uFEFF]'
                then translate(normalize(said, nfkc),
                    U&'\00AD\061C\200B\200C\200D\200E\200F\202A\202B\202C\202D\202E\2060\2066\2067\2068\2069\FE0E\FE0F\FEFF', '')
            when said is nfkc normalized then said -- mostly, and to look takes half as long
            else normalize(said, nfkc) end), U&'\03C2', U&'\03C3') end; -- a final sigma is a sigma
end
$$;
