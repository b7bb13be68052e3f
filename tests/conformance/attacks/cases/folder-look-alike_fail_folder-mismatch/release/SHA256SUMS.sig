0D BT Ï‹ÇGvñ^U—uY h¼àŸØ/¡DµOa ($ 
7Ä­RÆìwFØTú¢ÙmF¸÷:>6°lÍ„%ú©>Yï