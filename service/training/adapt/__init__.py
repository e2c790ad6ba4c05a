"""Make a bilingual (French, English) job encoder from an English one and open reference labels."""
