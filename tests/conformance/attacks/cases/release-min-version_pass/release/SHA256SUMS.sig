0D ]Z9ณตร ุDEnyüฟwBgคA}|Fฃýฝxล/ B+Eู-IผMKฎyึaขRH
(ฬM๕Ûแ&ึj๘_-ี?